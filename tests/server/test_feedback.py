"""From signals to outcome rows, and to what the session learns from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coderl_gate.gate import Gate
from coderl_gate.tendency import NOBODY
from coderl_store.records import Evidence, OutcomeKind, Privacy, Route, Survival
from coderl_store.shadow import Shadow, ShadowVerdict


def offered(workbench: Any, text: str = "sum(", **settings: Any) -> tuple[Any, str]:
    bench = workbench(**settings)
    bench.open(text)
    result = bench.ask(0, len(text))
    assert result is not None
    return bench, result.suggestion_id


def test_an_accept_by_command_after_its_text(workbench: Any) -> None:
    bench, key = offered(workbench)
    bench.later(0.4)
    bench.type("values)", 0, 4)
    bench.service.accepted(key)
    (outcome,) = bench.outcomes
    assert (outcome.kind, outcome.evidence, outcome.accepted_chars) == (OutcomeKind.ACCEPTED, Evidence.COMMAND, 7)
    assert outcome.visible_ms == pytest.approx(400, abs=1)
    assert outcome.decision_id == bench.decision.id
    bench.service.accepted(key)
    bench.service.shown(key)
    bench.later(60)
    assert len(bench.outcomes) == 1


def test_a_part_is_counted_without_what_was_only_repeated(workbench: Any) -> None:
    """Copilot counts UTF-16 units from the start of the inserted text, which repeats the token before the cursor."""
    bench = workbench(text="𝕏_values)")
    bench.open("compute")
    result = bench.ask(0, 7)
    assert result.edit.insert_text == "compute𝕏_values)"
    bench.type("𝕏_", 0, 7)
    bench.service.partially(result.suggestion_id, 7 + 3)  # 𝕏 is two units
    bench.later(11)
    (outcome,) = bench.outcomes
    assert (outcome.kind, outcome.accepted_chars) == (OutcomeKind.PARTIALLY_ACCEPTED, 2)


def test_unknown_ids_change_nothing(workbench: Any) -> None:
    bench, _ = offered(workbench)
    for key in ("", "no such", "\ud800"):
        bench.service.accepted(key)
        bench.service.shown(key)
        bench.service.partially(key, 5)
        bench.service.reported({"id": key, "kind": "accepted"})
    assert bench.outcomes == []


def test_outcomes_become_the_history_that_the_gate_sees(workbench: Any) -> None:
    bench, key = offered(workbench)
    bench.later(0.5)
    bench.service.reported({"id": key, "kind": "accepted"})
    bench.ask()
    assert bench.context.recent_accepts == (True,)
    assert bench.context.since_decision_ms == 0
    bench.later(11)
    bench.ask()
    assert bench.context.recent_accepts == (True, False)


def test_what_was_not_seen_is_no_history(workbench: Any) -> None:
    bench, _ = offered(workbench)
    bench.later(0.1)
    bench.service.focused("file:///other.py")
    assert [outcome.kind for outcome in bench.outcomes] == [OutcomeKind.NOT_SEEN]
    bench.ask()
    assert bench.context.recent_accepts == ()
    assert bench.context.since_decision_ms is None


def test_a_dismissal_counts_on_the_word_even_when_it_was_hardly_seen(workbench: Any) -> None:
    bench, key = offered(workbench, cooldown_s=5.0)
    bench.service.reported({"id": key, "kind": "dismissed"})
    assert bench.ask() is None
    assert bench.decision.reason == "cooldown"


def test_survival_is_measured_in_what_was_accepted(workbench: Any) -> None:
    bench, key = offered(workbench)
    bench.type("values)", 0, 4)
    bench.service.accepted(key)
    bench.later(15)
    bench.service.changed("file:///project/module.py", None, [], bench.capture().encoding)
    bench.later(15)
    rows = bench.rows(Survival)
    assert [(row.suggestion_id, row.after_s, row.share) for row in rows] == [(key, 15.0, 1.0), (key, 30.0, 1.0)]


def test_a_closed_document_ends_what_was_open_in_it(workbench: Any) -> None:
    bench, key = offered(workbench)
    bench.later(1)
    bench.service.closed("file:///project/module.py")
    (outcome,) = bench.outcomes
    assert (outcome.suggestion_id, outcome.kind, outcome.detail) == (key, OutcomeKind.MOVED_ON, "closed")


def test_no_reaction_is_a_timeout(workbench: Any) -> None:
    bench, _ = offered(workbench)
    bench.later(9.9)
    assert bench.outcomes == []
    bench.later(0.2)
    (outcome,) = bench.outcomes
    assert (outcome.kind, outcome.evidence) == (OutcomeKind.TIMED_OUT, Evidence.TIMEOUT)
    assert outcome.visible_ms == pytest.approx(10_000, abs=1)


def test_what_is_typed_where_a_suggestion_was_withheld_becomes_a_label(workbench: Any) -> None:
    bench = workbench(p2=0.01, privacy=Privacy.METRICS)
    bench.open("sum(")
    assert bench.ask() is None
    for index, key in enumerate("values)"):
        bench.type(key, 0, 4 + index)
    bench.later(10)
    assert bench.rows(Shadow) == []
    bench.later(10)
    (shadow,) = bench.rows(Shadow)
    assert (shadow.suggestion_id, shadow.decision_id) == (bench.suggestion.id, bench.decision.id)
    assert (shadow.verdict, shadow.agreed_chars, shadow.typed_chars) == (ShadowVerdict.WOULD_KEEP, 7, 7)
    assert shadow.horizon_s == 20.0
    assert bench.suggestion.text is None  # at this level the text was never written
    assert bench.outcomes == []


def test_a_shown_suggestion_gets_a_label_only_where_it_was_not_taken(workbench: Any) -> None:
    bench, key = offered(workbench)
    bench.type("values)", 0, 4)
    bench.service.accepted(key)
    bench.ask(0, 11)
    bench.later(1)
    for index, letter in enumerate(" + 1"):
        bench.type(letter, 0, 11 + index)
    bench.later(30)
    (shadow,) = bench.rows(Shadow)
    assert (shadow.decision_id, shadow.verdict) == (bench.decision.id, ShadowVerdict.WOULD_REJECT)
    assert [outcome.kind for outcome in bench.outcomes] == [OutcomeKind.ACCEPTED, OutcomeKind.DISAGREED]


@pytest.mark.parametrize("end", ["close the document", "end the session"])
def test_open_labels_are_settled_at_the_end(workbench: Any, end: str) -> None:
    bench = workbench(p2=0.01)
    uri = bench.open("sum(")
    bench.ask()
    bench.type("v", 0, 4)
    if end == "close the document":
        bench.service.closed(uri)
    else:
        bench.service.close()
    (shadow,) = bench.rows(Shadow)
    assert (shadow.verdict, shadow.agreed_chars) == (ShadowVerdict.UNKNOWN, 1)


def test_nothing_is_labelled_where_nothing_is_logged(workbench: Any) -> None:
    bench = workbench(p2=0.01, privacy=Privacy.OFF)
    bench.open("sum(")
    bench.ask()
    bench.later(60)
    assert bench.rows(Shadow) == []


def test_one_idea_that_is_served_again_gets_one_label(workbench: Any) -> None:
    bench, _ = offered(workbench)
    again = bench.ask()
    assert again is not None
    bench.type("x", 0, 4)
    bench.later(30)
    (shadow,) = bench.rows(Shadow)
    assert (shadow.suggestion_id, shadow.verdict) == (again.suggestion_id, ShadowVerdict.WOULD_REJECT)


def judged(bench: Any, kind: str) -> None:
    """One suggestion is offered, looked at and judged."""
    shown = bench.ask()
    bench.later(0.5)
    bench.service.reported({"id": shown.suggestion_id, "kind": kind})


def test_what_was_judged_moves_the_next_estimates_towards_the_programmer(workbench: Any) -> None:
    bench = workbench(gate=learning, cooldown_s=0.0, decides="always_show", adapt=False, remember_rejections=0)
    bench.open()
    bench.ask()
    first = bench.decision
    for _ in range(4):
        judged(bench, "dismissed")
    bench.ask()
    lowered = bench.decision
    assert lowered.p1 < first.p1
    assert lowered.p2 < first.p2
    for _ in range(12):
        judged(bench, "accepted")
    bench.ask()
    assert bench.decision.p2 > lowered.p2


def test_what_nobody_judged_moves_nothing(workbench: Any) -> None:
    bench = workbench(gate=learning, decides="always_show", adapt=False)
    bench.open()
    bench.ask()
    bench.later(0.1)
    bench.service.focused("file:///other.py")
    assert [outcome.kind for outcome in bench.outcomes] == [OutcomeKind.NOT_SEEN]
    assert bench.gate.tendency == NOBODY


def test_a_draft_counts_too_because_stage_2_estimated_its_text(workbench: Any) -> None:
    bench = workbench(gate=learning, p1=0.99, adapt=False)
    bench.open()
    judged(bench, "dismissed")
    assert bench.decision.route is Route.DRAFT
    assert bench.gate.tendency == NOBODY.learned(bench.decision.p2, False, 4.0)


def learning(gate: Gate) -> Gate:
    """The gate with programmers that differ."""
    return Gate(replace(gate.artifact, tendency_prior=4.0), gate.generator_id, gate.quantiles)
