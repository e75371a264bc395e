"""Several candidates in the server: which is answered, what is logged, what an editor gets to go on to, what it says then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason
from coderl_generator.complete import Completion
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_generator.stop_rules import Reason
from coderl_server.candidates import Judged, by_expected_seconds, shares_of
from coderl_store.clock import SystemClock
from coderl_store.records import Costs, Evidence, OutcomeKind, Suggestion

scores = st.lists(st.one_of(st.none(), st.floats(-80, 0)), min_size=1, max_size=6)


@given(scores)
def test_shares_are_a_distribution_in_the_order_of_the_scores(given_: list[float | None]) -> None:
    shares = shares_of(given_)
    assert sum(shares) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares)
    if None in given_:
        assert len(set(shares)) == 1
    else:
        best = max(range(len(given_)), key=lambda at: given_[at] or 0.0)
        assert shares[best] == max(shares)


def judged(text: str, p2: float, write_s: float, score: float | None) -> Judged:
    completion = Completion(text, (), (), None, 0.0, FinishReason.STOP, Reason.LINE, 0, 0, "", score=score)
    return Judged(completion, p2, {}, Costs(0.0, 0.5, write_s, 0.25 * write_s))


def test_the_best_saves_most_where_the_generator_finds_all_alike() -> None:
    short, long, unlikely = judged("a", 0.5, 1.0, -1.0), judged("ab", 0.4, 2.0, -1.0), judged("abc", 0.9, 2.0, -9.0)
    assert by_expected_seconds([short, long, unlikely]) == (long, short, unlikely)
    none = [judged("a", 0.5, 1.0, None), judged("b", 0.5, 2.0, None)]
    assert [one.completion.text for one in by_expected_seconds(none)] == ["b", "a"]
    assert [one.completion.text for one in by_expected_seconds([short, short])] == ["a", "a"]


def candidates(*others: str, branches: bool = True) -> ScriptedBackend:
    return ScriptedBackend(SystemClock(), Script(default=Rule("values)", others=others, logprob=-2.0)), branches=branches)


@pytest.fixture
def bench(workbench: Any) -> Any:
    bench = workbench(decides="always_show", candidates=3, backend=candidates("values, 0)", "things)"))
    bench.open()
    return bench


def test_they_are_logged_as_a_group_the_answered_one_first(bench: Any) -> None:
    shown = bench.ask(invoked=True)
    rows = bench.rows(Suggestion)
    assert {row.text for row in rows} == {"values)", "values, 0)", "things)"}
    assert [row.rank for row in rows] == [0, 1, 2]
    assert {row.decision_id for row in rows} == {bench.decision.id}
    assert rows[0].id == shown.suggestion_id == min(row.id for row in rows)
    assert len({row.lineage_id for row in rows}) == 3
    assert all(row.features and row.logprobs for row in rows)


def test_an_automatic_request_gets_the_best_only_and_one_asked_for_all(bench: Any) -> None:
    assert bench.ask().others == ()
    asked = bench.ask(invoked=True)
    assert len(asked.others) == 2
    made = len(bench.backend.requests)
    assert len(bench.ask(invoked=True).others) == 2
    assert len(bench.backend.requests) == made  # what is remembered is not decoded again
    texts = [shown.edit.insert_text for shown in (asked, *asked.others)]
    assert texts == [row.text for row in bench.rows(Suggestion)[-3:]]


def test_a_sure_one_is_answered_alone_until_others_are_asked_for(workbench: Any) -> None:
    sure = ScriptedBackend(SystemClock(), Script(default=Rule("values)", others=("things)",))), branches=True)
    bench = workbench(decides="always_show", candidates=3, backend=sure)
    bench.open()
    bench.ask()
    assert len(sure.requests) == len(bench.rows(Suggestion)) == 1
    assert [shown.edit.insert_text[-7:] for shown in bench.ask(invoked=True).others] == ["things)"]


def test_one_candidate_stands_alone(workbench: Any) -> None:
    bench = workbench(decides="always_show", backend=candidates("things)"))
    bench.open()
    assert bench.ask(invoked=True).others == ()
    assert [row.rank for row in bench.rows(Suggestion)] == [None]


def test_the_draft_route_pays_for_one(workbench: Any) -> None:
    bench = workbench(p1=0.97, candidates=3, backend=candidates("things)"))
    bench.open()
    bench.ask()
    assert bench.decision.route == "draft"
    assert len(bench.rows(Suggestion)) == 1


def test_typing_through_another_candidate_is_answered_from_memory(bench: Any) -> None:
    bench.ask()
    other = next(row for row in bench.rows(Suggestion) if row.text == "things)")
    asked = len(bench.backend.requests)
    bench.type(other.text[0], 0, 4)
    assert bench.ask(0, 5).edit.insert_text.endswith("hings)")
    assert len(bench.backend.requests) == asked


def test_the_one_an_editor_goes_on_to_takes_the_place_of_the_first(bench: Any) -> None:
    shown = bench.ask(invoked=True)
    bench.service.shown(shown.suggestion_id)
    bench.later(1.0)
    second = shown.others[0]
    bench.service.shown(second.suggestion_id)
    bench.later(1.0)
    bench.service.accepted(second.suggestion_id)
    bench.later(60.0)
    kinds = {outcome.suggestion_id: outcome for outcome in bench.outcomes}
    assert set(kinds) == {shown.suggestion_id, second.suggestion_id}
    assert kinds[second.suggestion_id].kind is OutcomeKind.ACCEPTED
    assert kinds[second.suggestion_id].evidence is Evidence.COMMAND
    assert not kinds[shown.suggestion_id].kept


def test_candidates_nobody_came_to_have_no_outcome(bench: Any) -> None:
    shown = bench.ask(invoked=True)
    bench.service.shown(shown.suggestion_id)
    bench.later(1.0)
    bench.service.accepted(shown.suggestion_id)
    bench.later(60.0)
    bench.service.close()
    assert [outcome.suggestion_id for outcome in bench.outcomes] == [shown.suggestion_id]
