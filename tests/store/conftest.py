"""Records to write, made by one clock and one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coderl_store.clock import VirtualClock, utc
from coderl_store.home import StoreSettings
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Costs,
    Decision,
    Evidence,
    Incident,
    Origin,
    Outcome,
    OutcomeKind,
    Privacy,
    Reason,
    Record,
    Route,
    Session,
    Severity,
    Stage,
    Suggestion,
    Survival,
    Timings,
    Trigger,
)
from coderl_store.repository import Repository
from coderl_store.shadow import Shadow, ShadowVerdict
from coderl_store.snapshot import Activity, Scope, Syntax


class Maker:
    """Makes records that belong together; every record is one second younger than the one before."""

    def __init__(self, seed: int = 0) -> None:
        self.clock = VirtualClock()
        self.ids = IdSource(self.clock, random.Random(seed))

    def _stamp(self) -> tuple[str, object]:
        self.clock.advance_to(self.clock.now_s() + 1.0)
        return self.ids.new(), utc(self.clock.now_s())

    def session(self, origin: Origin = Origin.EDITOR, user_key: str = "user") -> Session:
        return Session(*self._stamp(), origin=origin, user_key=user_key, client_name="nvim", seed=7)

    def request(self, session: Session, text: str = "return x") -> tuple[Record, ...]:
        context = Context(
            *self._stamp(),
            session_id=session.id,
            language="python",
            document_key="key",
            line=3,
            character=4,
            trigger=Trigger.AUTOMATIC,
            prefix=f"before {text}",
            suffix=f"after {text}",
            recent_accepts=(True, False),
            syntax=Syntax(Scope.ARGUMENTS, depth=2, index=1, share=0.25, error=None),
            activity=Activity(31.5, added_chars=9, deleted_chars=2, deletions=1, undone=0, lines_away=None),
            cooldown_ms=0.0,
            recent_rejections=(f"rejected {text}",),
            features={"length": 3.5, "unknown": None},
            feature_version=1,
        )
        decision = Decision(
            *self._stamp(),
            session_id=session.id,
            context_id=context.id,
            route=Route.FULL,
            stage=Stage.AFTER,
            action=Action.SHOW,
            reason=Reason.WORTH_SHOWING,
            p1=0.4,
            entropy_bits=0.97,
            tau_before=0.5,
            p2=0.8,
            tau=0.6,
            expected_costs=Costs(0.0, 1.2, 6.5, 0.65),
            costs=None,
            epsilon_skip=0.01,
            epsilon_withhold=0.0,
            coin_before=0.5,
            coin_after=0.25,
            propensity=1.0,
            gate_id="gate",
            generator_id="model",
            timings=Timings(total_ms=12.5),
        )
        suggestion = Suggestion(
            *self._stamp(),
            session_id=session.id,
            decision_id=decision.id,
            lineage_id=decision.id,
            generator_id="model",
            chars=len(text),
            lines=1,
            tokens=2,
            text=text,
            token_ids=(987654321, 42),
            logprobs=(-0.5, -1.25),
        )
        outcome = Outcome(
            *self._stamp(),
            session_id=session.id,
            suggestion_id=suggestion.id,
            decision_id=decision.id,
            kind=OutcomeKind.ACCEPTED,
            evidence=Evidence.COMMAND,
            visible_ms=812.0,
            accepted_chars=len(text),
        )
        survivals = [
            Survival(*self._stamp(), session_id=session.id, suggestion_id=suggestion.id, after_s=after_s, share=share)
            for after_s, share in ((15.0, 1.0), (30.0, 0.75))
        ]
        return (context, decision, suggestion, outcome, *survivals)

    def survival(self, share: float = 1.0) -> Survival:
        """A small record, where any will do."""
        return Survival(*self._stamp(), session_id="s", suggestion_id="g", after_s=15.0, share=share)

    def shadow(self, suggestion: Suggestion) -> Shadow:
        """The label of a suggestion that was not taken."""
        return Shadow(
            *self._stamp(),
            session_id=suggestion.session_id,
            suggestion_id=suggestion.id,
            decision_id=suggestion.decision_id,
            verdict=ShadowVerdict.WOULD_KEEP_PART,
            agreed_chars=6,
            typed_chars=20,
            taken_chars=0,
            horizon_s=19.0,
        )

    def incident(self, message: str = "something") -> Incident:
        return Incident(
            *self._stamp(), session_id="s", severity=Severity.WARNING, code="x", message=message, data={"n": 1, "s": "t"}
        )

    def later(self, record: Record, seconds: float) -> object:
        return record.at + timedelta(seconds=seconds)


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    """A home folder of its own, at the level that keeps everything."""
    return StoreSettings(tmp_path, f"sqlite:///{tmp_path / 'coderl.db'}", Privacy.CODE)


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    """An open log, on either database; whoever asks for it runs on both."""
    opened = Repository(database_url)
    yield opened
    opened.close()
