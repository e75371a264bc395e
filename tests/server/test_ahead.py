"""What is read and written before anybody asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coderl_generator.backend import GenerationRequest
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_server import ahead as module
from coderl_store.clock import VirtualClock

LONG = "".join(f"value_{n} = {n}\n" for n in range(40))


class ReadingBackend(ScriptedBackend):
    """Scripted, and able to evaluate prompts; each takes until it is let go."""

    def __init__(self, text: str = "values)") -> None:
        super().__init__(VirtualClock(), Script(default=Rule(text=text)))
        self.read: list[GenerationRequest] = []
        self.given_up = 0
        self.let_go = asyncio.Event()

    async def prefill(self, request: GenerationRequest) -> None:
        self.read.append(request)
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise


async def rest() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def test_a_short_document_is_read_when_it_is_opened(workbench: Any) -> None:
    backend = ReadingBackend()
    bench = workbench(backend=backend)
    bench.open(LONG)
    await rest()
    assert [request.prompt for request in backend.read] == [LONG.rstrip()]
    backend.let_go.set()
    await rest()
    bench.open(LONG)
    await rest()
    assert len(backend.read) == 1  # it is warm


@pytest.mark.parametrize(
    ("settings", "text", "uri"),
    [
        ({"work_ahead": False}, LONG, "file:///a.py"),
        ({"enabled": False}, LONG, "file:///a.py"),
        ({}, LONG, "file:///.env"),
        ({}, LONG * 20, "file:///long.py"),
        ({}, "x = 1\n", "file:///tiny.py"),
    ],
)
async def test_nothing_is_read_where_nothing_may_be_suggested_or_little_is_won(
    workbench: Any, settings: dict[str, Any], text: str, uri: str
) -> None:
    backend = ReadingBackend()
    bench = workbench(backend=backend, **settings)
    bench.open(text, uri=uri)
    await rest()
    assert backend.read == []


async def test_any_request_ends_the_reading_and_a_skipped_one_takes_it_up_again(workbench: Any) -> None:
    backend = ReadingBackend()
    bench = workbench(backend=backend, p1=0.01)
    bench.open(LONG)
    await rest()
    asked = bench.capture(line=40, character=0)
    await rest()
    assert backend.given_up == 1
    await bench.service.suggest(asked)
    await rest()
    assert bench.decision.route == "skip"
    assert len(backend.read) == 2
    bench.service.close()
    await rest()
    assert backend.given_up == 2


async def test_a_request_that_is_generated_for_warms_its_own_prompt(workbench: Any) -> None:
    backend = ReadingBackend()
    bench = workbench(backend=backend, p1=0.4, decides="always_show", work_ahead=False)
    bench.open(LONG)
    await bench.service.suggest(bench.capture(line=40, character=0))
    bench.service.configure({"workAhead": True, "rule": "never_show"})
    await bench.service.suggest(bench.capture(line=40, character=0))
    await rest()
    assert backend.read == []


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a suggestion is written without a pause."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_what_follows_a_likely_accept_is_there_when_it_is_asked_for(workbench: Any) -> None:
    bench = workbench(p2=0.95, text="values)")
    bench.open("sum(\n")
    assert await bench.service.suggest(bench.capture(0, 4)) is not None
    await rest()
    assert len(bench.backend.requests) == 2
    bench.type("values)", 0, 4)
    assert await bench.service.suggest(bench.capture(0, 11)) is not None
    await rest()
    assert bench.suggestion.source == "remembered"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("options", [{"p2": 0.6}, {"p2": 0.95, "reuse": False}, {"p2": 0.95, "work_ahead": False}])
async def test_otherwise_nothing_is_written_ahead(workbench: Any, options: dict[str, Any]) -> None:
    bench = workbench(decides="always_show", **options)
    bench.open("sum(\n")
    assert await bench.service.suggest(bench.capture(0, 4)) is not None
    await rest()
    assert len(bench.backend.requests) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("key", "goes_on"), [("v", True), ("x", False)])
async def test_typing_what_was_shown_lets_it_go_on_and_anything_else_ends_it(workbench: Any, key: str, goes_on: bool) -> None:
    clocked = Rule(text="values)", first_delay_ms=0.0, delay_ms=0.0)
    bench = workbench(p2=0.95, rule=clocked)
    bench.open("sum(\n")
    assert await bench.service.suggest(bench.capture(0, 4)) is not None
    bench.type(key, 0, 4)
    bench.capture(0, 5)  # before what follows has begun
    await rest()
    written = [request.prompt for request in bench.backend.requests[1:]]
    assert written == (["sum(values)"] if goes_on else [])


@pytest.mark.usefixtures("at_once")
async def test_a_played_session_does_nothing_ahead(workbench: Any) -> None:
    bench = workbench(p2=0.95, patient=True)
    bench.open("sum(\n")
    assert await bench.service.suggest(bench.capture(0, 4)) is not None
    await rest()
    assert len(bench.backend.requests) == 1
