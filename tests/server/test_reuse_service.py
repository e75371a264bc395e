"""Typing through a suggestion, as the service sees it: one idea, one row, one generation, one decision."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coderl_generator.scripted import Rule
from coderl_server.documents import Change
from coderl_server.positions import Encoding
from coderl_store.records import Action, Decision, Evidence, Outcome, OutcomeKind, Reason, Stage, Suggestion

URI = "file:///project/module.py"


def through(bench: Any, keys: str) -> list[Any]:
    """Type the keys behind `sum(` and ask after each; what is sent."""
    sent = []
    for index, key in enumerate(keys):
        bench.type(key, 0, 4 + index)
        sent.append(bench.ask(0, 5 + index))
    return sent


def test_what_is_typed_along_stays_without_a_new_decision(workbench: Any) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    first = bench.ask()
    sent = through(bench, "val")
    assert [one.edit.insert_text for one in sent] == ["values)"] * 3
    assert [one.edit.end_units for one in sent] == [5, 6, 7]
    assert len({first.suggestion_id, *(one.suggestion_id for one in sent)}) == 4
    decisions = bench.rows(Decision)
    assert [decision.reason for decision in decisions[1:]] == [Reason.TYPED_ALONG] * 3
    assert {(decision.action, decision.stage, decision.propensity) for decision in decisions[1:]} == {
        (Action.SHOW, Stage.RULE, 1.0)
    }
    assert [row.id for row in bench.rows(Suggestion)] == [first.suggestion_id]
    assert len(bench.backend.requests) == 1


@pytest.mark.parametrize("number", [0, 2])
def test_an_accept_under_any_of_its_names_is_the_outcome_of_the_one_row(workbench: Any, number: int) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    sent = [bench.ask(), *through(bench, "va")]
    bench.later(1.0)
    bench.type("lues)", 0, 6)
    bench.service.accepted(sent[number].suggestion_id)
    bench.later(2.0)
    (outcome,) = bench.rows(Outcome)
    assert (outcome.suggestion_id, outcome.kind, outcome.evidence) == (
        sent[0].suggestion_id, OutcomeKind.ACCEPTED, Evidence.COMMAND,
    )  # fmt: skip
    assert outcome.accepted_chars == len("lues)")


def test_a_part_that_is_taken_under_a_later_name_counts_without_what_was_typed(workbench: Any) -> None:
    bench = workbench(text="values, key=len)", decides="always_show")
    bench.open()
    sent = [bench.ask(), *through(bench, "va")]
    bench.later(1.0)
    bench.type("lues", 0, 6)
    bench.service.partially(sent[-1].suggestion_id, len("values"))
    bench.later(20.0)
    (outcome,) = bench.rows(Outcome)
    assert (outcome.kind, outcome.accepted_chars) == (OutcomeKind.PARTIALLY_ACCEPTED, len("lues"))


def test_what_disagrees_is_decided_anew(workbench: Any) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    bench.ask()
    through(bench, "vx")
    assert [decision.reason for decision in bench.rows(Decision)][1:] == [Reason.TYPED_ALONG, Reason.ALWAYS_SHOWN]
    assert bench.rows(Outcome)[0].kind in (OutcomeKind.DISAGREED, OutcomeKind.NOT_SEEN)


def test_an_outcome_between_the_reading_and_the_answer_of_a_request_ends_it(workbench: Any) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    first = bench.ask()
    bench.later(1.0)
    bench.type("v", 0, 4)
    asked = bench.capture(0, 5)
    bench.service.reported({"id": first.suggestion_id, "kind": "moved_on"})
    assert asyncio.run(bench.service.suggest(asked)) is not None
    assert bench.decision.reason is Reason.ALWAYS_SHOWN


def test_an_answer_that_comes_too_late_says_nothing_of_what_is_on_the_screen(workbench: Any) -> None:
    """The text has changed, and the next request is not there yet: what is typed on is still the same suggestion."""
    bench = workbench(text="values)", decides="always_show")
    bench.open()
    bench.ask()
    bench.later(1.0)
    bench.service.changed(URI, 2, [Change((0, 4, 0, 4), "v")], Encoding.UTF16)
    asked = bench.capture(0, 5)
    bench.service.changed(URI, 3, [Change((0, 5, 0, 5), "a")], Encoding.UTF16)
    assert asyncio.run(bench.service.suggest(asked)) is None
    assert bench.decision.reason is Reason.SUPERSEDED
    assert bench.outcomes == []
    bench.type("x", 0, 6)
    assert [outcome.kind for outcome in bench.outcomes] == [OutcomeKind.DISAGREED]


@pytest.mark.parametrize("change", ["settings", "invoked", "dismissed", "snoozed"])
def test_it_does_not_stay_where_something_else_was_said_meanwhile(workbench: Any, change: str) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    first = bench.ask()
    bench.type("v", 0, 4)
    if change == "settings":
        bench.service.configure({"rule": "never_show"})
    elif change == "dismissed":
        bench.later(1.0)
        bench.service.reported({"id": first.suggestion_id, "kind": "dismissed"})
    elif change == "snoozed":
        bench.service.snooze(5)
    bench.ask(0, 5, invoked=change == "invoked")
    assert bench.decision.reason is not Reason.TYPED_ALONG
    assert (bench.decision.action is Action.SHOW) == (change == "invoked")


def test_what_is_not_shown_is_decided_anew_with_every_key(workbench: Any) -> None:
    """p2 is below τ: what is remembered is no more shown than it was."""
    bench = workbench(p2=0.01, eagerness=-1.0, decides="entropy")
    bench.open()
    bench.ask()
    through(bench, "va")
    assert [decision.action for decision in bench.rows(Decision)] == [Action.WITHHOLD] * 3
    assert len(bench.backend.requests) == 1


def test_what_was_withheld_and_comes_back_is_the_same_idea(workbench: Any) -> None:
    """The tracker of outcomes knows open suggestions only; the memory knows the others too."""
    bench = workbench(p2=0.01, eagerness=-1.0)
    bench.open()
    bench.ask()
    first = bench.suggestion
    bench.type("v", 0, 4)
    bench.ask(0, 5, invoked=True)
    assert bench.decision.action is Action.SHOW
    assert (bench.suggestion.lineage_id, bench.suggestion.source) == (first.id, "remembered")


def test_switched_off_everything_is_decoded(workbench: Any) -> None:
    bench = workbench(decides="always_show", reuse=False)
    bench.open()
    bench.ask()
    through(bench, "v")
    assert {row.source for row in bench.rows(Suggestion)} == {"generated"}
    assert len(bench.backend.requests) == 2


@pytest.mark.parametrize(("key", "requests"), [("v", 1), ("x", 2)])
def test_a_newer_request_keeps_the_generation_only_where_it_agrees(workbench: Any, key: str, requests: int) -> None:
    bench = workbench(decides="always_show", rule=Rule(text="values)", first_delay_ms=500.0, delay_ms=100.0))
    bench.open()

    async def drive() -> None:
        older = asyncio.ensure_future(bench.service.suggest(bench.capture()))
        for _ in range(8):
            await asyncio.sleep(0)
        bench.type(key, 0, 4)
        newer = asyncio.ensure_future(bench.service.suggest(bench.capture(0, 5)))  # read first, then the older is cancelled
        older.cancel()
        for _ in range(100):
            for _ in range(10):
                await asyncio.sleep(0)
            bench.clock.advance_to(bench.clock.now_s() + 0.05)
        await newer
        assert older.cancelled()

    asyncio.run(drive())
    assert len(bench.backend.requests) == requests
    assert bench.suggestion.source == ("joined" if requests == 1 else "generated")
    assert bench.decision.action is Action.SHOW


def test_a_request_that_is_ended_before_it_began_lets_the_generation_go(workbench: Any) -> None:
    bench = workbench(decides="always_show", rule=Rule(text="values)", first_delay_ms=500.0, delay_ms=100.0))
    bench.open()

    async def drive() -> None:
        older = asyncio.ensure_future(bench.service.suggest(bench.capture()))
        for _ in range(8):
            await asyncio.sleep(0)
        bench.type("v", 0, 4)
        asked = bench.capture(0, 5)
        older.cancel()
        bench.service.superseded(asked)  # as where the client takes it back at once
        for _ in range(60):
            for _ in range(10):
                await asyncio.sleep(0)
            bench.clock.advance_to(bench.clock.now_s() + 0.05)
        assert bench.clock.sleeping == 0

    asyncio.run(drive())
    assert bench.backend.decoded_tokens == 0
