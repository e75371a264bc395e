"""What online adaptation added to the dial, beside the eagerness that was in force."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Decisions of earlier versions keep NULL: nothing was adapted."""
    op.add_column("decisions", sa.Column("adaptation", sa.Double(), nullable=True))
