"""`/v1/decisions` in words: what a client may say of a place, and what it is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from coderl_store.records import Action, Reason, Route, Stage, Trigger

MOST_CHARS = 2_000_000


class DecisionRequest(BaseModel):
    """A place in a document, and what is known of the programmer at this moment. What is left out is not known."""

    model_config = ConfigDict(extra="ignore")

    language: str = Field(max_length=50, description="LSP language id, such as `python`.")
    path: str = Field(
        min_length=1,
        max_length=4096,
        description="Path or URI of the document, for rules and prompt; logged as a hash.",
    )
    prefix: str = Field(max_length=MOST_CHARS, description="The document up to the cursor.")
    suffix: str = Field(default="", max_length=MOST_CHARS, description="The document after the cursor.")
    trigger: Trigger = Field(default=Trigger.AUTOMATIC, description="`invoked`: the programmer asked for it.")
    session_id: UUID | None = Field(default=None, description="From an earlier answer; null = a new session of an editor.")
    client_name: str = Field(default="", max_length=100)
    client_version: str = Field(default="", max_length=100)
    settings: dict[str, Any] = Field(default_factory=dict, description="As in docs/settings.md; `privacy` can only be lowered.")
    typing_interval_ms: float | None = Field(default=None, ge=0, le=1e9, description="Mean gap between the last keystrokes.")
    since_edit_ms: float | None = Field(default=None, ge=0, le=1e12)
    since_outcome_ms: float | None = Field(default=None, ge=0, le=1e12, description="Since a suggestion got its outcome.")
    since_dismissal_ms: float | None = Field(default=None, ge=0, le=1e12, description="Since one was dismissed by a key.")
    recent_accepts: list[bool] = Field(default_factory=list, max_length=10, description="Of the session; true = kept.")


class DecisionAnswer(BaseModel):
    """What was decided, and why."""

    decision_id: str
    session_id: str = Field(description="Send it with the next request, and in the records of outcomes.")
    suggestion_id: str | None = Field(description="Of what is to be shown; its outcome is a record for `POST /v1/records`.")
    action: Action
    text: str = Field(description="To be shown at the cursor; empty where it is withheld.")
    reason: Reason
    sentence: str = Field(description="The reason in words.")
    route: Route
    stage: Stage
    p1: float | None = Field(description="P(kept) from the place alone; null where a rule decided.")
    tau_before: float | None = Field(description="What p1 was compared with.")
    p2: float | None = Field(description="P(kept) with the text at hand; null where nothing was generated.")
    tau: float | None = Field(description="What p2 was compared with.")
    propensity: float = Field(description="Exact probability of this route and action, given p1 and p2.")
    generator_id: str
    gate_id: str
    problems: list[str] = Field(description="Settings that could not be used, one sentence each.")
