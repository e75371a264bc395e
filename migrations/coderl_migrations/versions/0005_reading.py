"""What an outcome knows besides its visible time: the measured time of reading."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows from before were not measured: null."""
    op.add_column("outcomes", sa.Column("reading_ms", sa.Double(), nullable=True))
