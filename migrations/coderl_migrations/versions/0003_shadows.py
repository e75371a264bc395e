"""A table for counterfactual labels: what was typed next where a suggestion was withheld."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The log gets the table `shadows` with its indexes."""
    op.create_table(
        "shadows",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("suggestion_id", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("agreed_chars", sa.BigInteger(), nullable=False),
        sa.Column("typed_chars", sa.BigInteger(), nullable=False),
        sa.Column("taken_chars", sa.BigInteger(), nullable=False),
        sa.Column("horizon_s", sa.Double(), nullable=False),
    )
    op.create_index("ix_shadows_at_id", "shadows", ["at", "id"])
    op.create_index("ix_shadows_session_id", "shadows", ["session_id"])
    op.create_index("ix_shadows_decision_id", "shadows", ["decision_id"])
