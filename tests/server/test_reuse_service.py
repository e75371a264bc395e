"""Typing through a suggestion, as the service sees it: one idea, one lineage, one generation, every decision made anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coderl_generator.scripted import Rule
from coderl_store.records import Action, Decision, Suggestion


def through(bench: Any, keys: str) -> None:
    """Type the keys behind `sum(` and ask after each."""
    for index, key in enumerate(keys):
        bench.type(key, 0, 4 + index)
        bench.ask(0, 5 + index)


def test_one_idea_keeps_its_lineage_and_is_decoded_once(workbench: Any) -> None:
    bench = workbench(decides="always_show")
    bench.open()
    bench.ask()
    through(bench, "val")
    rows = bench.rows(Suggestion)
    assert [row.text for row in rows] == ["values)", "alues)", "lues)", "ues)"]
    assert [row.source for row in rows] == ["generated", "remembered", "remembered", "remembered"]
    assert {row.lineage_id for row in rows} == {rows[0].id}
    assert len({row.id for row in rows}) == len(bench.rows(Decision)) == 4
    assert len(bench.backend.requests) == 1


def test_every_key_is_decided_anew(workbench: Any) -> None:
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
