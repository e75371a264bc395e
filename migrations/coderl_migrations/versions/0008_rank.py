"""A suggestion's rank among the candidates of its decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Suggestions of earlier versions were their decision's only ones: null."""
    op.add_column("suggestions", sa.Column("rank", sa.BigInteger(), nullable=True))
