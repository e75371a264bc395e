"""The language service without protocol: every reason there is, exact propensities, trials, memory, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.errors import GateError
from coderl_gate.escalation import ValueLimit
from coderl_gate.gate import Gate
from coderl_gate.policy import Policy, Request, action_probabilities
from coderl_generator.backend import FinishReason, GenerationRequest, Token, end_mark
from coderl_generator.errors import BackendUnavailable
from coderl_generator.scripted import Failure, Rule
from coderl_server.documents import Change
from coderl_server.positions import Encoding
from coderl_store.codec import decode, encode
from coderl_store.records import Action, Context, Decision, Privacy, Reason, Route, Session, Stage, Suggestion
from coderl_store.snapshot import Activity, Scope, Syntax

URI = "file:///project/module.py"
SECRET = "file:///project/.env"


class BrokenBackend:
    """A backend with a bug: it raises what no backend may."""

    generator_id = "broken"

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        yield Token("val", 1, -0.1)
        raise KeyError(request.prompt)

    async def aclose(self) -> None:
        pass


class ColdBackend:
    """Its model cannot be loaded."""

    generator_id = "cold"

    async def warm_up(self) -> None:
        raise BackendUnavailable("the model is damaged")

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        yield end_mark(FinishReason.END)

    async def aclose(self) -> None:
        pass


class BrokenGate(Gate):
    """A gate whose artifact does not fit: it says so with its own error."""

    def before(self, context: Context) -> Any:
        raise GateError("the feature `x` is missing")


class BuggyGate(Gate):
    """A gate with a bug."""

    def after(self, *arguments: Any) -> Any:
        raise ZeroDivisionError


def gate_of(kind: type[Gate]) -> Callable[[Gate], Gate]:
    return lambda gate: kind(gate.artifact, gate.generator_id, gate.quantiles)


def shown(bench: Any, **how: Any) -> None:
    assert bench.ask(**how) is not None


def silent(bench: Any, **how: Any) -> None:
    assert bench.ask(**how) is None


def after_dismissal(bench: Any, seconds: float) -> None:
    first = bench.ask()
    bench.service.reported({"id": first.suggestion_id, "kind": "dismissed", "visibleMs": 800})
    bench.later(seconds)
    silent(bench)


def snoozed(bench: Any) -> None:
    bench.service.snooze(5)
    silent(bench)


def superseded(bench: Any) -> None:
    bench.service.superseded(bench.capture())


def several_cursors(bench: Any) -> None:
    changes = [Change((0, 0, 0, 0), "x"), Change((0, 3, 0, 3), "x")]
    bench.service.changed(URI, 9, changes, Encoding.UTF16)
    silent(bench, character=6)


def repeating(bench: Any) -> None:
    bench.service.changed(URI, None, [Change((0, 0, 0, 4), "sum(values)\n")], Encoding.UTF16)
    silent(bench, line=1, character=0)


def undoing(bench: Any) -> None:
    bench.type("values", 0, 4)
    bench.service.changed(URI, None, [Change((0, 4, 0, 10), "")], Encoding.UTF16)
    silent(bench)


def typing_along(bench: Any) -> None:
    shown(bench)
    bench.type("v", 0, 4)
    shown(bench, character=5)


EVERY_REASON: dict[Reason, tuple[dict[str, Any], Callable[[Any], None]]] = {
    Reason.WORTH_SHOWING: ({}, shown),
    Reason.CONFIDENT_DRAFT: ({"p1": 0.99}, shown),
    Reason.EXPLORED: ({"p2": 0.01, "epsilon_withhold": 1.0}, shown),
    Reason.ASKED_FOR: ({"p1": 0.01, "p2": 0.01}, lambda bench: shown(bench, invoked=True)),
    Reason.ALWAYS_SHOWN: ({"p1": 0.01, "p2": 0.01, "decides": "always_show"}, shown),
    Reason.TYPED_ALONG: ({}, typing_along),
    Reason.NEVER_SHOWN: ({"p1": 0.99, "decides": "never_show"}, silent),
    Reason.UNLIKELY_BEFORE: ({"p1": 0.01}, silent),
    Reason.BELOW_THRESHOLD: ({"p2": 0.01}, silent),
    Reason.DISABLED: ({"enabled": False}, lambda bench: silent(bench, invoked=True)),
    Reason.SNOOZED: ({}, snoozed),
    Reason.MANUAL_ONLY: ({"manual_only": True}, silent),
    Reason.SECRET_FILE: ({"secret_globs": ("*.py",)}, lambda bench: silent(bench, invoked=True)),
    Reason.TOO_LARGE: ({"max_document_chars": 3}, lambda bench: silent(bench, invoked=True)),
    Reason.COOLDOWN: ({"cooldown_s": 5.0}, lambda bench: after_dismissal(bench, 4.0)),
    Reason.REJECTED_BEFORE: ({"cooldown_s": 5.0}, lambda bench: after_dismissal(bench, 6.0)),
    Reason.UNKNOWN_DOCUMENT: ({}, lambda bench: silent(bench, uri="file:///never/opened.py")),
    Reason.MULTI_CURSOR: ({}, several_cursors),
    Reason.UNDOES_EDIT: ({}, undoing),
    Reason.CREDENTIAL: ({"text": f"token='{'gh'}p_{'a1B2c3' * 6}')"}, lambda bench: silent(bench, invoked=True)),
    Reason.EMPTY: ({"text": ""}, silent),
    Reason.DUPLICATE: ({"text": "\nsum(values)\n"}, repeating),
    Reason.REPETITION: ({"text": "and so on " * 9}, silent),
    Reason.TOO_SHORT: ({"text": ")"}, silent),
    Reason.NO_MODEL: ({"backend": None}, silent),
    Reason.SUPERSEDED: ({}, superseded),
    Reason.TIMED_OUT: ({"rule": Rule(failure=Failure.HANG), "deadline_ms": 10.0, "hung_s": 0.01}, silent),
    Reason.GENERATOR_FAILED: ({"rule": Rule(failure=Failure.UNAVAILABLE)}, silent),
    Reason.GATE_FAILED: ({"gate": gate_of(BrokenGate)}, silent),
    Reason.INTERNAL_ERROR: ({"backend": BrokenBackend()}, silent),
}


@pytest.mark.parametrize("reason", list(EVERY_REASON))
def test_every_reason_is_reached_and_told(workbench: Any, reason: Reason) -> None:
    options, happens = EVERY_REASON[reason]
    bench = workbench(**options)
    bench.open()
    happens(bench)
    if reason is Reason.MULTI_CURSOR:
        return
    answer = bench.service.why(None)
    assert answer["decision"]["fields"]["reason"] == reason.value
    assert answer["text"].startswith(reason.sentence)
    if reason is Reason.SECRET_FILE:
        assert bench.rows(Decision) == bench.rows(Context) == []
    else:
        assert bench.decision.reason is reason
        assert bench.decision.context_id == bench.context.id


def test_no_reason_is_left_out() -> None:
    assert set(EVERY_REASON) == set(Reason)


# --- what is logged


@given(
    p1=st.floats(0.001, 0.999),
    p2=st.floats(0.001, 0.999),
    epsilon_skip=st.floats(0, 1),
    epsilon_withhold=st.floats(0, 1),
    eagerness=st.floats(-1, 1),
    seed=st.integers(0, 2**32),
    invoked=st.booleans(),
)
def test_the_logged_propensity_is_that_of_the_policy(
    workbench: Any,
    p1: float,
    p2: float,
    epsilon_skip: float,
    epsilon_withhold: float,
    eagerness: float,
    seed: int,
    invoked: bool,
) -> None:
    bench = workbench(
        p1=p1, p2=p2, epsilon_skip=epsilon_skip, epsilon_withhold=epsilon_withhold, eagerness=eagerness, seed=seed
    )
    bench.open()
    bench.ask(invoked=invoked)
    decision = bench.decision
    assert decision.h_bits is not None
    assert decision.p1 is not None
    policy = Policy(decision.h_bits, decision.eagerness, decision.epsilon_skip, decision.epsilon_withhold)
    request = Request(
        decision.p1,
        decision.expected_costs,
        # Where nothing was generated p2 is not known, and the probability of that does not depend on it.
        p2=0.5 if decision.p2 is None else decision.p2,
        costs=decision.costs or decision.expected_costs,
        asked_for=invoked,
    )
    table = action_probabilities(request, policy)
    assert decision.propensity == pytest.approx(table[decision.route, decision.action], abs=1e-12)
    assert sum(table.values()) == pytest.approx(1.0)
    assert decode(encode(decision)) == decision


def test_the_same_seed_and_events_make_the_same_rows_letter_by_letter(workbench: Any) -> None:
    def play(seed: int) -> list[str]:
        bench = workbench(seed=seed, p2=0.2, epsilon_skip=0.5, epsilon_withhold=0.5)
        bench.open("sum(\nsum(")
        for number in range(20):
            bench.ask(line=number % 2, invoked=number % 7 == 0)
            bench.later(0.7)
        bench.service.close()
        assert len({decision.id for decision in bench.rows(Decision)}) == 20
        return [encode(record) for record in bench.log.records]

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_a_draft_is_logged_with_the_budget_it_was_drafted_with(workbench: Any) -> None:
    bench = workbench(p1=0.99, temperature=0.8, max_tokens=40, draft_max_tokens=5)
    bench.open()
    bench.ask()
    assert bench.decision.route is Route.DRAFT
    assert (bench.suggestion.temperature, bench.suggestion.max_tokens) == (0.0, 5)
    assert bench.backend.requests[-1].temperature == 0.0
    bench = workbench(temperature=0.8, max_tokens=40)
    bench.open()
    bench.ask()
    assert (bench.suggestion.temperature, bench.suggestion.max_tokens) == (0.8, 40)


def test_rows_of_a_request_carry_one_history(workbench: Any) -> None:
    bench = workbench()
    bench.open("import os\nsum(")
    result = bench.ask(line=1)
    assert bench.suggestion.id == result.suggestion_id
    assert bench.suggestion.decision_id == bench.decision.id == bench.context.id
    assert bench.context.prefix == "import os\nsum("
    assert bench.context.features
    assert bench.decision.timings.total_ms is not None
    (session,) = bench.rows(Session)
    assert {bench.context.session_id, bench.decision.session_id} == {session.id}


@pytest.mark.parametrize(
    ("level", "kinds"), [(Privacy.OFF, set()), (Privacy.METRICS, {Session, Context, Decision, Suggestion})]
)
def test_privacy_is_kept_where_rows_are_made(workbench: Any, level: Privacy, kinds: set[type]) -> None:
    bench = workbench(privacy=level)
    bench.open()
    bench.ask()
    assert {type(record) for record in bench.log.records} == kinds
    assert all(record.text is None and record.token_ids == () for record in bench.rows(Suggestion))
    assert all(record.prefix is None and record.suffix is None for record in bench.rows(Context))


def test_a_request_knows_its_syntax_and_what_was_edited_lately(workbench: Any) -> None:
    bench = workbench(cooldown_s=5.0)
    bench.open("def f(a):\n    return sum(\n")
    bench.later(1)
    for place, sign in enumerate("ab"):
        bench.type(sign, 1, 15 + place)
        bench.later(0.25)
    first = bench.ask(line=1, character=17)
    assert bench.context.syntax == Syntax(Scope.ARGUMENTS, depth=1, index=0, share=bench.context.syntax.share, error=True)
    assert bench.context.activity == Activity(None, added_chars=2, deleted_chars=0, deletions=0, undone=0, lines_away=0)
    assert (bench.context.since_dismissal_ms, bench.context.cooldown_ms, bench.context.recent_rejections) == (None, 0.0, ())
    assert bench.context.features["scope_call"] == 1.0
    bench.service.reported({"id": first.suggestion_id, "kind": "dismissed", "visibleMs": 900})
    bench.later(2)
    bench.ask(line=1, character=17, invoked=True)
    assert (bench.context.since_dismissal_ms, bench.context.cooldown_ms) == (2000, 3000)
    assert bench.context.recent_rejections == ("values)",)
    assert bench.suggestion.features["s_like_rejected"] == 1.0
    assert decode(encode(bench.context)) == bench.context


def test_a_request_that_a_rule_refuses_holds_nothing_of_the_text(workbench: Any) -> None:
    bench = workbench(enabled=False)
    bench.open()
    bench.ask()
    assert (bench.context.syntax, bench.context.activity, bench.context.recent_rejections) == (None, None, None)


# --- random trials


def test_trials_stop_at_the_cap_of_the_hour(workbench: Any) -> None:
    bench = workbench(p2=0.01, epsilon_withhold=1.0, explore_per_hour=3)
    bench.open()
    reasons = []
    for _ in range(6):
        bench.ask()
        reasons.append(bench.decision.reason)
        bench.later(11)
    assert reasons == [Reason.EXPLORED] * 3 + [Reason.BELOW_THRESHOLD] * 3
    assert bench.decision.epsilon_withhold == 0.0
    assert bench.decision.propensity == 1.0
    bench.later(3600)
    bench.ask()
    assert bench.decision.reason is Reason.EXPLORED


def test_a_trial_that_came_to_nothing_is_a_trial_too(workbench: Any) -> None:
    bench = workbench(p1=0.01, text="", epsilon_skip=1.0, explore_per_hour=2)
    bench.open()
    for _ in range(4):
        bench.ask()
        bench.later(11)
    assert [d.reason for d in bench.rows(Decision)] == [Reason.EMPTY] * 2 + [Reason.UNLIKELY_BEFORE] * 2


def test_no_trials_while_a_dismissal_is_fresh(workbench: Any) -> None:
    bench = workbench(cooldown_s=30.0, remember_rejections=0, p2=0.01, epsilon_withhold=1.0)
    bench.open("sum(\nsum(")
    bench.service.reported({"id": bench.ask().suggestion_id, "kind": "dismissed", "visibleMs": 900})
    asked = bench.capture(1, 4, invoked=True)
    assert not asked.may_explore
    bench.later(31)
    assert bench.capture(1, 4).may_explore


# --- memory of rejections


def test_a_rejected_text_stays_away_from_its_place_only(workbench: Any) -> None:
    bench = workbench(cooldown_s=0.0)
    bench.open("a = sum(\nb = sum(")
    bench.service.reported({"id": bench.ask(0, 8).suggestion_id, "kind": "dismissed", "visibleMs": 900})
    silent(bench, line=0, character=8)
    assert bench.decision.reason is Reason.REJECTED_BEFORE
    assert bench.decision.propensity == 1.0
    assert bench.decision.stage is Stage.RULE
    shown(bench, line=1, character=8)
    shown(bench, line=0, character=8, invoked=True)
    other = bench.open("a = sum(", uri="file:///other.py")
    shown(bench, line=0, character=8, uri=other)


def test_old_rejections_are_forgotten_beyond_their_number(workbench: Any) -> None:
    bench = workbench(cooldown_s=0.0, remember_rejections=1)
    bench.open("a = sum(\nb = sum(")
    for line in (0, 1):
        bench.service.reported({"id": bench.ask(line, 8).suggestion_id, "kind": "dismissed", "visibleMs": 900})
    shown(bench, line=0, character=8)
    silent(bench, line=1, character=8)


# --- failures


def test_a_bug_of_ours_is_silence_and_its_text_stays_out_of_the_log(workbench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench = workbench(backend=BrokenBackend())
    bench.open("very_secret_name(")
    for _ in range(3):
        silent(bench, character=17)
    assert bench.decision.reason is Reason.INTERNAL_ERROR
    assert [incident.code for incident in bench.incidents] == ["internal_error"]
    assert "KeyError" in bench.incidents[0].message
    assert not any("very_secret_name" in incident.message for incident in bench.incidents)
    assert len(bench.told) == 1
    assert caplog.text.count("Traceback") == 3, "logged in full"


def test_a_bug_in_the_gate_is_silence_too(workbench: Any) -> None:
    bench = workbench(gate=gate_of(BuggyGate))
    bench.open()
    silent(bench)
    assert bench.decision.reason is Reason.INTERNAL_ERROR
    bench.later(1)
    shown(workbench_opened(workbench))


def workbench_opened(workbench: Any) -> Any:
    bench = workbench()
    bench.open()
    return bench


def test_a_backend_that_never_ends_is_given_up(workbench: Any) -> None:
    bench = workbench(rule=Rule(text="val", failure=Failure.HANG), deadline_ms=10.0, hung_s=0.01)
    bench.open()
    silent(bench)
    assert bench.decision.reason is Reason.TIMED_OUT
    assert [incident.code for incident in bench.incidents] == ["generator_timeout"]


def test_a_model_that_cannot_be_loaded_is_told_once(workbench: Any) -> None:
    from coderl_server.intervene import warm

    bench = workbench(backend=ColdBackend())
    asyncio.run(bench.service.warm_up(warm))
    assert bench.told == ["the model is damaged"]
    assert [incident.message for incident in bench.incidents] == ["the model is damaged"]


def test_what_went_wrong_before_the_client_listened_is_told_when_it_does(workbench: Any) -> None:
    bench = workbench(backend=None, warnings={"no_model": "Install a model.", "gate": ""})
    bench.open()
    for _ in range(3):
        silent(bench)
    assert bench.told == ["Install a model."]
    assert len(bench.incidents) == 1
    assert bench.service.status()["kind"] == "Warning"
    assert bench.service.why(None)["text"].startswith("Install a model.")


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(workbench: Any) -> None:
    bench = workbench()
    bench.open()
    bench.log.failing = True
    for _ in range(3):
        shown(bench)
    assert len(bench.told) == 1
    assert "Suggestions go on" in bench.told[0]
    bench.log.failing = False
    shown(bench)


# --- the rest of the surface


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"id": 3, "kind": "accepted"},
        {"id": "x", "kind": "loved"},
        {"id": "x", "kind": ["accepted"]},
        {"id": "x", "kind": "accepted", "acceptedChars": 10**400, "visibleMs": float("nan")},
        {"id": "x", "kind": "accepted", "acceptedChars": True, "visibleMs": "long"},
    ],
)
def test_a_report_without_sense_changes_nothing(workbench: Any, message: dict[str, Any]) -> None:
    bench = workbench()
    bench.service.reported(message)
    assert bench.outcomes == []


def test_settings_report_what_they_cannot_use(workbench: Any) -> None:
    bench = workbench()
    assert bench.service.configure({"eagerness": 7, "manualOnly": True}) == [
        "Setting coderl.eagerness must be a number between -1 and 1, not 7; it stays at 0.0."
    ]
    bench.open()
    silent(bench)
    assert bench.decision.reason is Reason.MANUAL_ONLY


def test_every_shown_suggestion_gets_exactly_one_outcome_at_the_latest_at_the_end(workbench: Any) -> None:
    bench = workbench(rule=Rule(text="values)"))
    bench.open("sum(\nsum(\nsum(")
    keys = []
    for line in (0, 1, 2, 1):
        keys.append(bench.ask(line=line).suggestion_id)
        bench.later(1)
    bench.service.close()
    bench.service.close()
    assert sorted(outcome.suggestion_id for outcome in bench.outcomes) == sorted(keys)


def test_decisions_are_canonical_lines(workbench: Any) -> None:
    bench = workbench()
    bench.open()
    bench.ask()
    (line,) = bench.service.decisions()
    assert decode(line) == bench.decision
    assert json.loads(line)["fields"]["action"] == Action.SHOW


def test_a_text_that_changes_while_the_answer_is_made_gets_none(workbench: Any) -> None:
    """A client that neither cancels nor asks again would draw it in the wrong place."""
    bench = workbench()
    bench.open()
    asked = bench.capture()
    bench.type("v", 0, 4)
    assert asyncio.run(bench.service.suggest(asked)) is None
    decision = bench.decision
    assert (decision.action, decision.reason, decision.stage) == (Action.WITHHOLD, Reason.SUPERSEDED, Stage.RULE)
    assert bench.suggestion.decision_id == decision.id  # it was generated, and the log says so
    bench.service.close()
    assert bench.outcomes == []


def test_one_cursor_again_lifts_the_rule_of_several(workbench: Any) -> None:
    bench = workbench()
    bench.open()
    several_cursors(bench)
    bench.type("v", 0, 6)
    shown(bench, character=7)


@pytest.mark.parametrize(
    "keys",
    [
        [Change((0, 4, 0, 4), "="), Change((0, 5, 0, 5), "=")],
        [Change((0, 3, 0, 4), ""), Change((0, 2, 0, 3), "")],
    ],
    ids=["typed", "deleted"],
)
def test_equal_keys_of_one_cursor_in_one_change_are_not_several(workbench: Any, keys: list[Change]) -> None:
    bench = workbench()
    bench.open()
    bench.service.changed(URI, 2, keys, Encoding.UTF16)
    bench.ask(0, 2)
    assert bench.decision.reason is not Reason.MULTI_CURSOR


def test_a_gate_without_a_value_limit_says_so_and_decides_by_entropy(workbench: Any) -> None:
    bench = workbench()
    (problem,) = bench.service.configure({"rule": "value"})
    assert "no value limit" in problem
    bench.open()
    assert bench.ask() is not None


def test_the_value_rule_decides_what_is_settled_early(workbench: Any) -> None:
    """At p1 = 0.4 entropy asks stage 2; the value of information need not, where asking is worth little."""
    for seconds, route in ((0.0, Route.FULL), (1e6, Route.DRAFT)):
        bench = workbench(gate=valued(seconds), decides="value", p1=0.4, eagerness=1.0)
        assert bench.service.configure({"rule": "value"}) == []
        bench.open()
        bench.ask()
        assert bench.decision.route is route


def valued(seconds: float) -> Callable[[Gate], Gate]:
    """The gate with a value limit."""

    def with_limit(gate: Gate) -> Gate:
        return Gate(replace(gate.artifact, value_limit=ValueLimit(seconds, 3.0)), gate.generator_id, gate.quantiles)

    return with_limit
