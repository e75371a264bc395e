"""Indexes for the streaming reads in time order, the joins of a request, and the erasure of a user."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Reads by (at, id), by session and along a request no longer scan whole tables."""
    op.create_index("ix_sessions_at_id", "sessions", ["at", "id"])
    op.create_index("ix_sessions_user_key", "sessions", ["user_key"])
    op.create_index("ix_contexts_at_id", "contexts", ["at", "id"])
    op.create_index("ix_contexts_session_id", "contexts", ["session_id"])
    op.create_index("ix_decisions_at_id", "decisions", ["at", "id"])
    op.create_index("ix_decisions_context_id", "decisions", ["context_id"])
    op.create_index("ix_decisions_session_id", "decisions", ["session_id"])
    op.create_index("ix_suggestions_at_id", "suggestions", ["at", "id"])
    op.create_index("ix_suggestions_decision_id", "suggestions", ["decision_id"])
    op.create_index("ix_suggestions_session_id", "suggestions", ["session_id"])
    op.create_index("ix_outcomes_at_id", "outcomes", ["at", "id"])
    op.create_index("ix_outcomes_decision_id", "outcomes", ["decision_id"])
    op.create_index("ix_outcomes_session_id", "outcomes", ["session_id"])
    op.create_index("ix_survivals_at_id", "survivals", ["at", "id"])
    op.create_index("ix_survivals_session_id", "survivals", ["session_id"])
    op.create_index("ix_survivals_suggestion_id", "survivals", ["suggestion_id"])
    op.create_index("ix_incidents_at_id", "incidents", ["at", "id"])
    op.create_index("ix_incidents_session_id", "incidents", ["session_id"])
