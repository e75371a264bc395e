"""How a suggestion was come by: generated, joined, remembered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Suggestions of earlier versions were all generated, but for those served again while typed through: null."""
    op.add_column("suggestions", sa.Column("source", sa.String(), nullable=True))
