"""Generations that are given up while they are written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coderl_generator.complete import LOOK_EVERY
from coderl_generator.scripted import Rule
from coderl_store.records import Action, Reason

TEXT = "a + b + c + d + e + f + g + h + i + j + k + l"


def asked(workbench: Any, **options: Any) -> Any:
    bench = workbench(rule=Rule(text=TEXT, delay_ms=1.0), **options)
    bench.open()

    answered(bench)
    return bench


def answered(bench: Any, *, invoked: bool = False) -> None:
    async def drive() -> None:
        task = asyncio.ensure_future(bench.service.suggest(bench.capture(invoked=invoked)))
        while not task.done():
            for _ in range(12):
                await asyncio.sleep(0)
            bench.clock.advance_to(bench.clock.now_s() + 0.001)
        await task

    asyncio.run(drive())


def test_what_will_be_withheld_is_not_written_to_its_end(workbench: Any) -> None:
    bench = asked(workbench, p2=0.01)
    assert (bench.decision.action, bench.decision.reason) == (Action.WITHHOLD, Reason.BELOW_THRESHOLD)
    assert bench.backend.decoded_tokens <= 2 * LOOK_EVERY + 1
    assert TEXT.startswith(bench.suggestion.text)
    assert len(bench.suggestion.text) < len(TEXT)


@pytest.mark.parametrize(
    "options", [{"p2": 0.9}, {"p2": 0.01, "epsilon_withhold": 1.0}, {"p2": 0.01, "decides": "always_show"}]
)
def test_what_will_be_shown_is(workbench: Any, options: dict[str, Any]) -> None:
    bench = asked(workbench, **options)
    assert bench.decision.action is Action.SHOW
    assert bench.suggestion.text == TEXT


def test_it_is_not_remembered(workbench: Any) -> None:
    """Where somebody asks for it by hand, it is written anew, and whole."""
    bench = asked(workbench, p2=0.01)
    answered(bench, invoked=True)
    assert (bench.decision.action, bench.suggestion.text, bench.suggestion.source) == (Action.SHOW, TEXT, "generated")
