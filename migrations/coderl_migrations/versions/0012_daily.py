"""Tables for a team's pages: sums per day and programmer, which days they were made of, and figures made from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEY = ("day", "user_key", "language", "generator_id", "gate_id")
_COUNTS = (
    "requests", "settled", "skipped", "generated", "shown", "seen", "kept", "priced", "weighed",
    "by_command", "by_notification", "by_inferred", "by_timeout", "by_imported",
)  # fmt: skip
_SUMS = ("seconds", "earned_s", "weight", "weight_squared", "logged_s", "robust_s", "unsupported", "withheld_s")


def upgrade() -> None:
    """The log gets the tables `daily`, `days` and `figures`. The server fills them with what the log says."""
    op.create_table(
        "daily",
        *(sa.Column(name, sa.String(), primary_key=True, nullable=False) for name in _KEY),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.Double(), nullable=False) for name in _SUMS),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_daily_user_key", "daily", ["user_key"])
    op.create_table(
        "days",
        sa.Column("day", sa.String(), primary_key=True, nullable=False),
        sa.Column("decisions", sa.BigInteger(), nullable=False),
        sa.Column("outcomes", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "figures",
        sa.Column("name", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
    )
