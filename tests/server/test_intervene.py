"""One request from snapshot to answer: what is generated when, with which budget, and what is asked of the gate."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from coderl_gate.costs import expected_costs
from coderl_gate.gate import Gate
from coderl_gate.policy import Policy, Request, action_probabilities, decide
from coderl_generator.scripted import Rule
from coderl_server.intervene import HIDDEN_PAUSE_S
from coderl_store.records import Action, Decision, Reason, Route, Severity, Stage, Suggestion


def answer(bench: Any, asked: Any) -> Any:
    return asyncio.run(bench.service._intervener.answer(asked))


def test_a_skip_generates_nothing(workbench: Any) -> None:
    bench = workbench(p1=0.01)
    bench.open()
    bench.ask()
    assert bench.backend.requests == []
    assert (bench.decision.route, bench.decision.stage, bench.decision.p2) == (Route.SKIP, Stage.BEFORE, None)
    assert bench.rows(Suggestion) == []


@pytest.mark.parametrize(("p1", "route", "tokens"), [(0.99, Route.DRAFT, 7), (0.4, Route.FULL, 33)])
def test_the_route_decides_about_the_budget(workbench: Any, p1: float, route: Route, tokens: int) -> None:
    bench = workbench(p1=p1, draft_max_tokens=7, max_tokens=33, deadline_ms=1234.0)
    bench.open()
    bench.ask()
    (request,) = bench.backend.requests
    assert bench.decision.route is route
    assert (request.max_tokens, request.deadline_s) == (tokens, 1.234)


@pytest.mark.parametrize(
    ("patient", "deadline_ms", "timeout_s"), [(False, 60_000.0, 10.0), (True, 60_000.0, 60.0), (True, 3000.0, 10.0)]
)
@pytest.mark.parametrize("p1", [0.99, 0.4])
def test_a_patient_session_waits_for_a_token_as_long_as_its_deadline_allows(
    workbench: Any, p1: float, patient: bool, deadline_ms: float, timeout_s: float
) -> None:
    bench = workbench(p1=p1, patient=patient, deadline_ms=deadline_ms)
    bench.open()
    bench.ask()
    (request,) = bench.backend.requests
    assert (request.timeout_s, request.deadline_s) == (timeout_s, deadline_ms / 1000)


def test_a_first_token_later_than_ten_seconds_ends_only_an_impatient_session(workbench: Any) -> None:
    def reason(patient: bool) -> Reason:
        rule = Rule(text="values)", first_delay_ms=30_000.0)
        bench = workbench(patient=patient, deadline_ms=60_000.0, rule=rule)
        bench.open()

        async def drive() -> None:
            task = asyncio.ensure_future(bench.service.suggest(bench.capture()))
            while not task.done():
                await asyncio.sleep(0)
                bench.clock.advance_to(bench.clock.now_s() + 0.5)
            await task

        asyncio.run(drive())
        return Reason(bench.decision.reason)

    assert reason(False) is Reason.TIMED_OUT
    assert reason(True) is not Reason.TIMED_OUT


def test_a_body_is_asked_for_as_a_block_and_a_draft_as_a_line(workbench: Any) -> None:
    text = "\n    x = 1\n    return x\n"  # the trailing newline of the prompt is generated again
    full = workbench(text=text, mode="block")
    full.open("def f():\n")
    full.ask(1, 0)
    assert full.suggestion.lines == 2
    draft = workbench(text=text, mode="block", p1=0.99)
    draft.open("def f():\n")
    draft.ask(1, 0)
    assert draft.suggestion.lines == 1


def test_waiting_beyond_a_natural_pause_is_a_cost(workbench: Any) -> None:
    def t_wait(delay_ms: float) -> float:
        bench = workbench(rule=Rule(text="values)", first_delay_ms=delay_ms))
        bench.open()
        asked = bench.capture()

        async def drive() -> Any:
            task = asyncio.ensure_future(bench.service.suggest(asked))
            while not task.done():
                await asyncio.sleep(0)
                bench.clock.advance_to(bench.clock.now_s() + 0.01)
            return await task

        asyncio.run(drive())
        return float(bench.decision.costs.t_wait_s)

    assert t_wait(0.0) == 0.0
    assert t_wait(1000.0) == pytest.approx(1.0 - HIDDEN_PAUSE_S, abs=0.05)


def test_costs_are_the_programmers_own_at_the_pace_of_this_session(workbench: Any) -> None:
    def known(gate: Gate) -> Gate:
        gate.artifact = replace(gate.artifact, personal={"user": {"typing_chars_per_s": 4.0, "verify_base_s": 0.25}})
        return gate

    bench = workbench(gate=known, text="values)")
    bench.open("")
    bench.ask(0, 0)
    assert bench.decision.costs.t_write_s == pytest.approx(7 / 4.0 + 0.5)
    assert bench.decision.costs.t_verify_s == pytest.approx(0.25 + 7 * 0.02)
    calm = bench.decision
    for place in range(300):
        bench.later(0.1)
        bench.type("x", 0, place)
    bench.later(0.3)
    bench.ask(0, 300)
    assert 7 / 8.0 < bench.decision.costs.t_write_s - 0.5 < 7 / 5.5
    assert bench.decision.expected_costs.t_write_s < calm.expected_costs.t_write_s
    assert bench.decision.tau > calm.tau  # typing has become cheaper, so a suggestion has to be surer
    pace = bench.service.why(None)["pace"]
    assert pace["fitted_chars_per_s"] == 4.0
    assert 5.5 < pace["chars_per_s"] < 8.0
    assert pace["mean_gap_ms"] == pytest.approx(100.0)


def test_the_pace_of_the_moment_of_asking_counts(workbench: Any) -> None:
    bench = workbench()
    bench.open("sum(")
    asked = bench.capture(0, 4)
    for place in range(100):
        bench.later(0.05)
        bench.type("x", 0, 4 + place)
    assert answer(bench, asked).decision.expected_costs == expected_costs(bench.gate.costs("user"))


def test_pastes_and_pauses_are_no_pace(workbench: Any) -> None:
    bench = workbench()
    bench.open("")
    bench.type("a", 0, 0)
    bench.later(30.0)
    bench.type("b", 0, 1)
    bench.later(0.01)
    bench.type("pasted text", 0, 2)
    bench.ask(0, 13)
    assert bench.service.why(None)["pace"]["mean_gap_ms"] is None
    assert bench.decision.expected_costs == expected_costs(bench.gate.costs("user"))


def test_a_text_over_the_size_limit_is_logged_but_not_shown(workbench: Any) -> None:
    text = "first, second, third, fourth, fifth)"
    bench = workbench(text=text, max_suggestion_chars=len(text) - 1)
    bench.open()
    assert bench.ask() is None
    assert (bench.decision.reason, bench.decision.action) == (Reason.TOO_LARGE, Action.WITHHOLD)
    assert bench.suggestion.chars == len(text)


def test_settings_of_the_moment_of_asking_count(workbench: Any) -> None:
    bench = workbench(p2=0.01)
    bench.open()
    asked = bench.capture()
    bench.service.configure({"eagerness": 1, "rule": "always_show", "maxTokens": 1})
    result = answer(bench, asked)
    assert not result.shown
    assert result.decision.reason is Reason.BELOW_THRESHOLD


def test_the_document_of_the_moment_of_asking_counts(workbench: Any) -> None:
    bench = workbench()
    bench.open("first(")
    asked = bench.capture(0, 6)
    bench.type("second", 0, 0)
    answer(bench, asked)
    assert bench.backend.requests[-1].prompt.endswith("first(")


def test_a_cancelled_answer_stops_the_decoding(workbench: Any) -> None:
    bench = workbench(rule=Rule(text="one two three four five", delay_ms=1000.0))
    bench.open()

    async def drive() -> None:
        task = asyncio.ensure_future(bench.service.suggest(bench.capture()))
        for _ in range(10):
            await asyncio.sleep(0)
            bench.clock.advance_to(bench.clock.now_s() + 0.3)
        for _ in range(10):
            await asyncio.sleep(0)
        decoded = bench.backend.decoded_tokens
        assert 0 < decoded < 5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(50):
            await asyncio.sleep(0)
            bench.clock.advance_to(bench.clock.now_s() + 1.0)
        assert bench.backend.decoded_tokens == decoded
        assert bench.clock.sleeping == 0

    asyncio.run(drive())


def test_timings_are_those_of_the_sessions_clock(workbench: Any) -> None:
    bench = workbench()
    bench.open()
    bench.ask()
    timings = bench.decision.timings
    assert (timings.gate_before_ms, timings.generate_ms, timings.gate_after_ms, timings.total_ms) == (0, 0, 0, 0)


def test_a_suggestion_of_too_many_lines_is_withheld(workbench: Any) -> None:
    for limit, reason in ((2, Reason.WORTH_SHOWING), (1, Reason.TOO_LARGE)):
        bench = workbench(text="\n    x = 1\n    return x\n", mode="block", max_suggestion_lines=limit)
        bench.open("def f():\n")
        bench.ask(1, 0)
        assert bench.decision.reason is reason
        assert "suggestion" in bench.decision.reason.sentence


def dismissals(bench: Any, count: int) -> None:
    """Each a second look at another place, sent away after a second."""
    for number in range(count):
        shown = bench.ask(number, 4)
        assert shown is not None
        bench.later(1.0)
        bench.service.reported({"id": shown.suggestion_id, "kind": "dismissed"})
        bench.later(1.0)


def test_surplus_rejections_lower_what_is_in_force_for_a_while_and_are_logged(workbench: Any) -> None:
    bench = workbench(p2=0.9, eagerness=0.2, cooldown_s=0, remember_rejections=0)
    bench.open("sum(\n" * 9)
    dismissals(bench, 3)
    bench.ask(3, 4)
    decision = bench.decision
    assert decision.adaptation < -0.1
    assert decision.eagerness == pytest.approx(0.2 + decision.adaptation)
    assert decision.tau > bench.rows(type(decision))[0].tau
    state = bench.service.why(None)["adaptation"]
    assert (state["on"], state["dial"], state["counted"], state["kept"]) == (True, 0.2, 3, 0)
    assert "Recent outcomes lowered eagerness" in bench.service.why(None)["text"]
    bench.later(20.0)  # the open suggestion times out
    bench.later(36_000.0)
    bench.ask(4, 4)
    assert bench.decision.adaptation == pytest.approx(0.0, abs=1e-6)


def test_without_the_setting_nothing_adapts(workbench: Any) -> None:
    bench = workbench(p2=0.9, eagerness=0.2, cooldown_s=0, remember_rejections=0, adapt=False)
    bench.open("sum(\n" * 9)
    dismissals(bench, 3)
    bench.ask(3, 4)
    assert (bench.decision.eagerness, bench.decision.adaptation) == (0.2, None)
    assert "switched off" in bench.service.why(None)["adaptation"]["sentence"]


def test_the_logged_decision_is_what_the_policy_says_with_the_eagerness_in_force(workbench: Any) -> None:
    """Propensities stay exact: the log alone reproduces them."""
    bench = workbench(p2=0.6, cooldown_s=0, remember_rejections=0, epsilon_withhold=0.3, explore_per_hour=1000)
    bench.open("sum(\n" * 9)
    for number in range(9):
        shown = bench.ask(number, 4)
        bench.later(1.0)
        if shown is not None:
            bench.service.reported({"id": shown.suggestion_id, "kind": "dismissed"})
        bench.later(1.0)
    decisions = bench.rows(Decision)
    assert len({decision.eagerness for decision in decisions}) > 2
    for one in decisions:
        request = Request(one.p1, one.expected_costs, one.coin_before, one.coin_after, one.p2, one.costs)
        policy = Policy(one.h_bits, one.eagerness, one.epsilon_skip, one.epsilon_withhold)
        table = action_probabilities(request, policy)
        assert table[one.route, one.action] == one.propensity
        assert decide(request, policy).action is one.action


def test_drift_is_logged_told_once_and_shown_by_status_and_why(workbench: Any) -> None:
    bench = workbench()
    for _ in range(2):
        bench.service.noticed("drift", "The gate no longer fits.")
    assert [(one.code, one.severity) for one in bench.incidents] == [("drift", Severity.WARNING)]
    assert bench.told == ["The gate no longer fits."]
    assert bench.service.status()["message"] == "The gate no longer fits."
    assert bench.service.why(None)["notices"] == ["The gate no longer fits."]
    bench.service.noticed("drift", "")
    assert bench.service.status()["message"] == "Ready."
    assert bench.service.why(None)["notices"] == []
