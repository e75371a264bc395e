from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Route,
    Session,
    Stage,
    Suggestion,
    Survival,
    Trigger,
)
from coderl_store.repository import Repository
from coderl_trainer.errors import TaskError
from coderl_trainer.log_tasks import LeftOut, LogTasks, tasks_from_log
from coderl_trainer.task_formats.own import load_tasks, write_tasks
from coderl_trainer.types import TaskKind


class Programmer:
    """Writes requests with their outcomes into a real database."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.clock = VirtualClock()
        self.ids = IdSource(self.clock, random.Random(1))

    def _stamp(self) -> tuple[str, object]:
        self.clock.advance_to(self.clock.now_s() + 1.0)
        return self.ids.new(), utc(self.clock.now_s())

    def took(
        self,
        kind: OutcomeKind = OutcomeKind.ACCEPTED,
        *,
        text: str | None = "return total",
        chars: int = 0,
        shares: tuple[float, ...] = (1.0, 1.0),
        origin: Origin = Origin.EDITOR,
        prefix: str | None = "def f(total):\n    ",
        reason: Reason = Reason.WORTH_SHOWING,
        document: str = "one",
    ) -> str:
        """One request that ended like this; the id of its task."""
        session = Session(*self._stamp(), origin=origin, user_key="someone")
        context = Context(
            *self._stamp(), session_id=session.id, language="python", document_key=document, line=1, character=4,
            trigger=Trigger.AUTOMATIC, prefix=prefix, suffix="\n",
        )  # fmt: skip
        decision = Decision(
            *self._stamp(), session_id=session.id, context_id=context.id, route=Route.FULL, stage=Stage.AFTER,
            action=Action.SHOW, reason=reason, p1=0.5, entropy_bits=1.0, tau_before=0.3, p2=0.6, tau=0.2,
            expected_costs=None, costs=None, epsilon_skip=0.0, epsilon_withhold=0.1, coin_before=0.5, coin_after=0.5,
            propensity=0.25, gate_id="g", generator_id="m",
        )  # fmt: skip
        suggestion = Suggestion(
            *self._stamp(), session_id=session.id, decision_id=decision.id, lineage_id="l", generator_id="m",
            chars=len(text or ""), lines=1, tokens=2, text=text,
        )  # fmt: skip
        outcome = Outcome(
            *self._stamp(), session_id=session.id, suggestion_id=suggestion.id, decision_id=decision.id, kind=kind,
            evidence=Evidence.COMMAND, accepted_chars=chars,
        )  # fmt: skip
        measured = [
            Survival(*self._stamp(), session_id=session.id, suggestion_id=suggestion.id, after_s=15.0 * 2**index, share=share)
            for index, share in enumerate(shares)
        ]
        self.repository.append([session, context, decision, suggestion, outcome, *measured])
        return f"log/{decision.id}"

    def tasks(self, **options: object) -> LogTasks:
        origins = options.get("origins", (Origin.EDITOR,))
        return tasks_from_log(self.repository.requests(origins=tuple(Origin)), **{"origins": origins, **options})  # type: ignore[arg-type]


@pytest.fixture
def programmer(tmp_path: Path) -> Iterator[Programmer]:
    repository = Repository(f"sqlite:///{tmp_path / 'log.db'}")
    yield Programmer(repository)
    repository.close()


def test_what_was_taken_and_stayed_is_a_gap_with_its_text(programmer: Programmer) -> None:
    name = programmer.took()
    (task,) = programmer.tasks().tasks
    assert (task.id, task.kind, task.reference) == (name, TaskKind.INFILL, "return total")
    assert task.program("return total") == "def f(total):\n    return total\n"
    assert task.visible_tests == task.hidden_tests == ()
    assert task.problem == "log/one"
    assert task.metadata["propensity"] == "0.25"
    assert task.metadata["share"] == "1.0"
    assert task.metadata["after_s"] == "30.0"


def test_of_a_partial_accept_the_part_counts(programmer: Programmer) -> None:
    programmer.took(OutcomeKind.PARTIALLY_ACCEPTED, chars=6)
    programmer.took(OutcomeKind.PARTIALLY_ACCEPTED, chars=60)
    made = programmer.tasks()
    assert [task.reference for task in made.tasks] == ["return"]
    assert made.left_out == {LeftOut.OTHER_PART: 1}


def test_what_was_typed_through_needs_no_measurement(programmer: Programmer) -> None:
    programmer.took(OutcomeKind.TYPED_THROUGH, shares=())
    programmer.took(OutcomeKind.TYPED_THROUGH, shares=(0.4,))
    made = programmer.tasks()
    assert len(made.tasks) == 1
    assert made.left_out == {LeftOut.EDITED: 1}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (OutcomeKind.ACCEPTED, {"origin": Origin.SIMULATED}, LeftOut.NOT_REAL),
        (OutcomeKind.ACCEPTED, {"origin": Origin.IMPORTED}, LeftOut.NOT_REAL),
        (OutcomeKind.DISMISSED, {}, LeftOut.NOT_KEPT),
        (OutcomeKind.NOT_SEEN, {}, LeftOut.NOT_KEPT),
        (OutcomeKind.ACCEPTED, {"text": None}, LeftOut.NO_TEXT),
        (OutcomeKind.ACCEPTED, {"prefix": None}, LeftOut.NO_TEXT),
        (OutcomeKind.ACCEPTED, {"shares": (1.0, 0.9)}, LeftOut.EDITED),
        (OutcomeKind.ACCEPTED, {"shares": ()}, LeftOut.UNMEASURED),
        (OutcomeKind.ACCEPTED, {"text": "\n  "}, LeftOut.BLANK),
    ],
)
def test_what_is_no_task_is_counted_by_reason(
    programmer: Programmer, kind: OutcomeKind, changes: dict[str, object], reason: LeftOut
) -> None:
    programmer.took(kind, **changes)  # type: ignore[arg-type]
    made = programmer.tasks()
    assert made.tasks == ()
    assert made.left_out == {reason: 1}


def test_other_rows_come_only_when_asked_for_in_words(programmer: Programmer) -> None:
    programmer.took(origin=Origin.SIMULATED)
    programmer.took(shares=())
    programmer.took(shares=(0.8,))
    assert programmer.tasks().tasks == ()
    assert len(programmer.tasks(origins=(Origin.SIMULATED,)).tasks) == 1
    assert len(programmer.tasks(unmeasured=True).tasks) == 1
    assert len(programmer.tasks(least_share=0.75).tasks) == 1
    with pytest.raises(TaskError, match="not at 0"):
        programmer.tasks(least_share=0)


def test_what_was_shown_for_exploration_counts_and_is_named(programmer: Programmer) -> None:
    programmer.took(reason=Reason.EXPLORED)
    programmer.took()
    explored, ordinary = programmer.tasks().tasks
    assert explored.metadata["explored"] == "yes"
    assert "explored" not in ordinary.metadata


def test_tasks_of_the_log_can_be_written_and_read(programmer: Programmer, tmp_path: Path) -> None:
    programmer.took()
    programmer.took(document="other")
    tasks = programmer.tasks().tasks
    assert write_tasks(tasks, tmp_path / "log.jsonl") == 2
    again = load_tasks(tmp_path / "log.jsonl")
    assert [replace(task, metadata={}) for task in again] == [replace(task, metadata={}) for task in tasks]
    assert [dict(task.metadata) for task in again] == [dict(task.metadata) for task in tasks]
