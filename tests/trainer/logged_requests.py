"""Logged requests for tests, with everything that may be different in a call."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Costs,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Record,
    Route,
    Session,
    Stage,
    Suggestion,
    Survival,
    Trigger,
)
from coderl_store.repository import LoggedRequest


@dataclass
class WordCodec:
    """Cuts text as byte-pair tokenizers do: a word begins with its blank. Ids in the order in which words come."""

    words: list[str] = field(default_factory=list)

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        pieces = re.findall(r" ?\w+|\n+|\s|[^\w\s]+", text)
        assert "".join(pieces) == text
        for piece in pieces:
            if piece not in self.words:
                self.words.append(piece)
        return [self.words.index(piece) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[number] for number in ids)


class Requests:
    """Makes requests, a minute apart."""

    def __init__(self, codec: WordCodec | None = None) -> None:
        self.codec = codec or WordCodec()
        self.clock = VirtualClock()
        self.ids = IdSource(self.clock, random.Random(1))

    def one(
        self,
        kind: OutcomeKind | None = OutcomeKind.ACCEPTED,
        *,
        prefix: str | None = "def f(total):\n    ",
        suffix: str | None = "\n",
        language: str = "plaintext",
        text: str | None = "return total",
        written: str = " return total",
        share: float | None = None,
        visible_ms: float | None = 900.0,
        chars: int = 0,
        user: str = "someone",
        origin: Origin = Origin.EDITOR,
        context: Mapping[str, Any] | None = None,
        decision: Mapping[str, Any] | None = None,
        suggestion: Mapping[str, Any] | None = None,
    ) -> LoggedRequest:
        """One request; `written`: what the model's tokens spell, from the lead on."""
        self.clock.advance_to(self.clock.now_s() + 60.0)
        at, tokens = utc(self.clock.now_s()), tuple(self.codec.encode(written))
        session = Session(self.ids.new(), at, origin, user)
        place = Context(
            **{
                "id": self.ids.new(), "at": at, "session_id": session.id, "language": language, "document_key": "one",
                "line": 1, "character": 4, "trigger": Trigger.AUTOMATIC, "prefix": prefix, "suffix": suffix, **(context or {}),
            }
        )  # fmt: skip
        decided = Decision(
            **{
                "id": self.ids.new(), "at": at, "session_id": session.id, "context_id": place.id, "route": Route.FULL,
                "stage": Stage.AFTER, "action": Action.SHOW, "reason": Reason.WORTH_SHOWING, "p1": 0.4, "entropy_bits": 1.0,
                "tau_before": 0.3, "p2": 0.6, "tau": 0.2, "expected_costs": None, "costs": Costs(0.5, 1.0, 3.0, 0.3),
                "epsilon_skip": 0.0, "epsilon_withhold": 0.1, "coin_before": 0.5, "coin_after": 0.5, "propensity": 1.0,
                "gate_id": "g", "generator_id": "m", **(decision or {}),
            }
        )  # fmt: skip
        written_row = Suggestion(
            **{
                "id": self.ids.new(), "at": at, "session_id": session.id, "decision_id": decided.id, "lineage_id": decided.id,
                "generator_id": "m", "chars": len(text or ""), "lines": 1, "tokens": len(tokens), "text": text,
                "token_ids": tokens, "logprobs": tuple(-0.5 - number for number in range(len(tokens))), **(suggestion or {}),
            }
        )  # fmt: skip
        outcome, survival = None, ()
        if kind is not None:
            taken = kind in (OutcomeKind.ACCEPTED, OutcomeKind.PARTIALLY_ACCEPTED, OutcomeKind.TYPED_THROUGH)
            outcome = Outcome(
                self.ids.new(), at + timedelta(seconds=1), session.id, written_row.id, decided.id, kind, Evidence.COMMAND,
                visible_ms=visible_ms, accepted_chars=chars or (len(text or "") if taken else 0),
            )  # fmt: skip
            if share is not None:
                survival = (Survival(self.ids.new(), outcome.at, session.id, written_row.id, 30.0, share),)
        return LoggedRequest(session, place, decided, written_row, outcome, survival)


def records(request: LoggedRequest) -> list[Record]:
    """Its rows, for a database."""
    found = [request.session, request.context, request.decision, request.suggestion, request.outcome, *request.survival]
    return [record for record in found if record is not None]
