"""One suggestion end to end over the scripted backend: early stop, deadlines, halving, what is measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coderl_generator.backend import FinishReason
from coderl_generator.complete import Budget, complete
from coderl_generator.errors import BackendUnavailable, GeneratorError, PromptTooLong
from coderl_generator.extract import Mode
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.oracle import Oracle
from coderl_generator.prompt import Place
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend
from coderl_generator.snippets import Snippet
from coderl_generator.stop_rules import Reason
from coderl_store.clock import SystemClock, VirtualClock

PLACE = Place("def add(a, b):\n    ", "\n", "python", "add.py")


def scripted(text: str, clock: VirtualClock | SystemClock | None = None, **rule: object) -> ScriptedBackend:
    return ScriptedBackend(clock or SystemClock(), Script(default=Rule(text, **rule)))  # type: ignore[arg-type]  # by name


async def test_a_suggestion_comes_with_what_it_is_made_of() -> None:
    backend = scripted("\n    return a + b\n\n\nprint(add(1, 2))\n" * 5, logprob=-0.5)
    got = await complete(backend, PLACE, Budget(), SystemClock().now_s)
    assert (got.text, got.reason, got.finish, got.trimmed) == ("return a + b", Reason.LINE, FinishReason.STOP, " ")
    assert len(got.token_ids) == len(got.logprobs) > 0
    assert set(got.logprobs) == {-0.5}
    assert got.prompt_chars == len("def add(a, b):\n   ")
    assert backend.requests[0].prompt == "def add(a, b):\n   "
    assert backend.requests[0].one_line


async def test_decoding_stops_as_soon_as_the_line_is_complete() -> None:
    backend = scripted("\n    return a\n" + "x = 1\n" * 200)
    got = await complete(backend, PLACE, Budget(max_tokens=500), SystemClock().now_s)
    assert backend.decoded_tokens == got.tokens_used < 8


async def test_a_begun_word_is_healed_where_the_backend_can_force_it() -> None:
    place = Place("def add(a, b):\n    retu", "\n", "python")
    script = Script((Rule("rn a + b\n", r"retu\Z"), Rule(" return a + b\n", r"\):\n   \Z")))
    forcing = ScriptedBackend(SystemClock(), script, forces_beginning=True)
    got = await complete(forcing, place, Budget(), SystemClock().now_s)
    assert (got.text, got.trimmed, forcing.requests[0].begins_with) == ("rn a + b", " retu", " retu")
    for backend, budget in ((ScriptedBackend(SystemClock(), script), Budget()), (forcing, Budget(heal_word=False))):
        got = await complete(backend, place, budget, SystemClock().now_s)
        assert (got.text, got.trimmed, backend.requests[-1].begins_with) == ("rn a + b", "", "")


async def test_a_line_begins_with_the_name_that_the_text_after_it_needs() -> None:
    place = Place("def f(values):\n    ", "\n    return total\n", "python")
    script = Script(default=Rule(" total = sum(values)\n", logprob=-0.5))
    forcing = ScriptedBackend(SystemClock(), script, forces_beginning=True)
    got = await complete(forcing, place, Budget(), SystemClock().now_s)
    assert (got.text, forcing.requests[0].begins_with) == ("total = sum(values)", " total =")
    forced = [end for end in got.token_ends if end < len("total =")]
    assert got.given == len(forced) + 1
    assert got.own_logprobs == got.logprobs[got.given :] != ()
    assert got.after(len("total")).given == got.given - sum(end <= len("total") for end in got.token_ends)
    assert got.after(len("total = s")).given == 0
    for backend, budget in ((ScriptedBackend(SystemClock(), script), Budget()), (forcing, Budget(need_name=False))):
        got = await complete(backend, place, budget, SystemClock().now_s)
        assert (got.text, got.given, backend.requests[-1].begins_with) == ("total = sum(values)", 0, "")


async def test_latencies_are_read_from_the_clock() -> None:
    clock = VirtualClock(50.0)
    backend = scripted("\n    return", clock, first_delay_ms=300.0, delay_ms=100.0)
    task = asyncio.ensure_future(complete(backend, PLACE, Budget(), clock.now_s))
    for tick in range(20):
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance_to(50.0 + tick / 10)
    got = await task
    assert got.first_token_ms == pytest.approx(300.0)
    assert got.latency_ms == pytest.approx(300.0 + 100.0 * (got.tokens_used - 1))


async def test_at_the_deadline_the_line_so_far_stands() -> None:
    clock = VirtualClock(0.0)
    backend = scripted("\n    return a + b + c", clock, first_delay_ms=100.0, delay_ms=100.0)
    task = asyncio.ensure_future(complete(backend, PLACE, Budget(deadline_s=0.38), clock.now_s))
    for tick in range(10):
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance_to(tick / 20)
    got = await task
    assert (got.finish, got.reason, got.tokens_used) == (FinishReason.DEADLINE, Reason.DEADLINE, 3)
    assert got.text == "return a"


async def test_cancelling_stops_the_decoding() -> None:
    clock = VirtualClock(0.0)
    backend = scripted("\n    x" * 50, clock, delay_ms=10.0)
    task = asyncio.ensure_future(complete(backend, PLACE, Budget(max_tokens=500, mode=Mode.BLOCK), clock.now_s))
    for tick in range(5):
        clock.advance_to(tick / 100)
        for _ in range(5):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    decoded = backend.decoded_tokens
    for tick in range(5, 50):
        clock.advance_to(tick / 100)
        await asyncio.sleep(0)
    assert backend.decoded_tokens == decoded
    assert clock.sleeping == 0


async def test_a_prompt_too_long_is_tried_with_half_the_window() -> None:
    document = "".join(f"value_{n:04d} = {n}\n" for n in range(400))
    backend = ScriptedBackend(SystemClock(), Script(default=Rule("\ngo()\n")), max_prompt_chars=1000)
    got = await complete(backend, Place(document), Budget(), SystemClock().now_s)
    assert got.text == "go()"
    assert [len(request.prompt) for request in backend.requests] == sorted(
        (len(request.prompt) for request in backend.requests), reverse=True
    )
    tiny = ScriptedBackend(SystemClock(), max_prompt_chars=10)
    with pytest.raises(PromptTooLong):
        await complete(tiny, Place(document), Budget(), SystemClock().now_s)


async def test_a_prompt_too_long_loses_its_snippets_before_its_window() -> None:
    place = Place("a = 1\n" * 100, language="python", snippets=(Snippet("b.py", "b = 2\n" * 60),))
    backend = ScriptedBackend(SystemClock(), Script(default=Rule("\nvalue = 3\n")), max_prompt_chars=800)
    got = await complete(backend, place, Budget(), SystemClock().now_s)
    assert got.text == "value = 3"
    asked = [request.prompt for request in backend.requests]
    assert ["b = 2" in prompt for prompt in asked] == [True, False]
    assert asked[1].count("a = 1") == 100


async def test_a_backends_failure_is_not_hidden() -> None:
    with pytest.raises(BackendUnavailable):
        await complete(scripted("\n    a", failure=Failure.UNAVAILABLE), PLACE, Budget(), SystemClock().now_s)
    with pytest.raises(GeneratorError, match="template"):
        await complete(scripted("a"), PLACE, Budget(template="nope"), SystemClock().now_s)


async def test_an_empty_generation_has_no_first_token() -> None:
    got = await complete(scripted(""), PLACE, Budget(), SystemClock().now_s)
    assert (got.text, got.first_token_ms, got.tokens_used, got.reason) == ("", None, 0, Reason.END)


SOURCE = Path(__file__).read_text(encoding="utf-8")


async def test_with_an_oracle_every_line_of_a_real_file_is_completed() -> None:
    backend = ScriptedBackend(SystemClock(), Script(oracle=Oracle((SOURCE,))))
    lines = SOURCE.splitlines(keepends=True)
    for n in range(20, len(lines), 7):
        before, line = "".join(lines[:n]), lines[n].rstrip("\n")
        indent = line[: len(line) - len(line.lstrip())]
        if not line.strip():
            continue
        got = await complete(backend, Place(before + indent, "\n", "python"), Budget(max_tokens=100), SystemClock().now_s)
        assert got.text == line.strip()


@pytest.mark.model
async def test_the_embedded_model_completes_a_line_of_code(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    place = Place("import os\n\ndef read_file(path):\n    with open(path) as file:\n        ", "\n", "python")
    got = await complete(backend, place, Budget(timeout_s=120.0), SystemClock().now_s)
    await backend.aclose()
    assert got.text == "return file.read()"
    assert got.reason is Reason.LINE
    assert all(logprob <= 0 for logprob in got.logprobs)
