"""What a context knows besides its text: syntax, recent edits, cooldown, rejected texts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows from before do not know these: null."""
    op.add_column("contexts", sa.Column("syntax", sa.JSON(), nullable=True))
    op.add_column("contexts", sa.Column("activity", sa.JSON(), nullable=True))
    op.add_column("contexts", sa.Column("since_dismissal_ms", sa.Double(), nullable=True))
    op.add_column("contexts", sa.Column("cooldown_ms", sa.Double(), nullable=True))
    op.add_column("contexts", sa.Column("recent_rejections", sa.JSON(), nullable=True))
