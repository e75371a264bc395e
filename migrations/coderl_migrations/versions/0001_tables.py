"""Tables: one per record type."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An empty database gets its tables."""
    _sessions()
    _contexts()
    _decisions()
    _suggestions()
    _outcomes()
    _survivals()
    _incidents()


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("user_key", sa.String(), nullable=False),
        sa.Column("client_name", sa.String(), nullable=False),
        sa.Column("client_version", sa.String(), nullable=False),
        sa.Column("server_version", sa.String(), nullable=False),
        sa.Column("generator_id", sa.String(), nullable=False),
        sa.Column("gate_id", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
    )


def _contexts() -> None:
    op.create_table(
        "contexts",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("document_key", sa.String(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("character", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("document_version", sa.BigInteger(), nullable=True),
        sa.Column("document_chars", sa.BigInteger(), nullable=True),
        sa.Column("document_lines", sa.BigInteger(), nullable=True),
        sa.Column("offset_chars", sa.BigInteger(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=True),
        sa.Column("suffix", sa.String(), nullable=True),
        sa.Column("typing_interval_ms", sa.Double(), nullable=True),
        sa.Column("since_edit_ms", sa.Double(), nullable=True),
        sa.Column("since_decision_ms", sa.Double(), nullable=True),
        sa.Column("recent_accepts", sa.JSON(), nullable=False),
        sa.Column("session_s", sa.Double(), nullable=True),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("feature_version", sa.BigInteger(), nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("context_id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("p1", sa.Double(), nullable=True),
        sa.Column("entropy_bits", sa.Double(), nullable=True),
        sa.Column("tau_before", sa.Double(), nullable=True),
        sa.Column("p2", sa.Double(), nullable=True),
        sa.Column("tau", sa.Double(), nullable=True),
        sa.Column("expected_costs", sa.JSON(), nullable=True),
        sa.Column("costs", sa.JSON(), nullable=True),
        sa.Column("epsilon_skip", sa.Double(), nullable=False),
        sa.Column("epsilon_withhold", sa.Double(), nullable=False),
        sa.Column("coin_before", sa.Double(), nullable=False),
        sa.Column("coin_after", sa.Double(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("gate_id", sa.String(), nullable=False),
        sa.Column("generator_id", sa.String(), nullable=False),
        sa.Column("eagerness", sa.Double(), nullable=False),
        sa.Column("h_bits", sa.Double(), nullable=True),
        sa.Column("timings", sa.JSON(), nullable=False),
    )


def _suggestions() -> None:
    op.create_table(
        "suggestions",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("lineage_id", sa.String(), nullable=False),
        sa.Column("generator_id", sa.String(), nullable=False),
        sa.Column("chars", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("token_ids", sa.JSON(), nullable=False),
        sa.Column("logprobs", sa.JSON(), nullable=False),
        sa.Column("adapter_id", sa.String(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("top_p", sa.Double(), nullable=False),
        sa.Column("max_tokens", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.Double(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("feature_version", sa.BigInteger(), nullable=False),
    )


def _outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("suggestion_id", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("visible_ms", sa.Double(), nullable=True),
        sa.Column("accepted_chars", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
    )


def _survivals() -> None:
    op.create_table(
        "survivals",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("suggestion_id", sa.String(), nullable=False),
        sa.Column("after_s", sa.Double(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
    )


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(), primary_key=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
    )
