"""Tables for a team's server: tokens, audit rows, agreements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The log gets the tables `tokens`, `audits` and `agreements`."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("user_key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index("ix_tokens_at_id", "tokens", ["at", "id"])
    op.create_index("ix_tokens_user_key", "tokens", ["user_key"])
    op.create_table(
        "audits",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_audits_at_id", "audits", ["at", "id"])
    op.create_index("ix_audits_subject", "audits", ["subject"])
    op.create_table(
        "agreements",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_agreements_at_id", "agreements", ["at", "id"])
