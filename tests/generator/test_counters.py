"""What a backend counts: prompt tokens read and reused, tokens decoded, and how fast it stops."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from coderl_generator.backend import GenerationRequest
from coderl_generator.counters import STOPS, Counters
from coderl_generator.llamacpp import LlamaCppBackend


def progress(total: int, cache: int, processed: int) -> dict[str, int]:
    return {"total": total, "cache": cache, "processed": processed, "time_ms": 0}


def test_a_prompt_is_counted_once_however_many_messages_tell_of_it() -> None:
    counters = Counters()
    read = counters.progressed(progress(100, 40, 40), None)
    assert counters.unread_tokens == 60
    for processed in (70, 100):
        read = counters.progressed(progress(100, 40, processed), read)
    assert (counters.prompt_tokens, counters.reused_tokens, counters.unread_tokens) == (100, 40, 0)


def test_what_was_never_read_of_a_prompt_stays_unread() -> None:
    counters = Counters()
    read = counters.progressed(progress(100, 40, 40), None)
    counters.progressed(progress(100, 40, 64), read)
    counters.progressed(progress(10, 10, 10), None)
    assert (counters.prompt_tokens, counters.reused_tokens, counters.unread_tokens) == (110, 50, 36)


def test_the_first_token_of_a_stream_has_no_decoding_time() -> None:
    counters = Counters()
    last_s = counters.timed(None, 5.0)
    counters.timed(last_s, 5.25)
    assert (counters.timed_tokens, counters.decoding_s) == (1, 0.25)


def test_only_what_was_given_up_counts_as_such_and_memory_is_bounded() -> None:
    counters = Counters()
    counters.stopped(3.0, 7, given_up=False)
    for _ in range(STOPS + 1):
        counters.stopped(12.3456, 2, given_up=True)
    told = counters.to_json()
    assert (told["given_up"], told["given_up_tokens"]) == (STOPS + 1, 2 * (STOPS + 1))
    assert told["given_up_ms"] == [12.346] * STOPS
    assert told["ended_ms"] == [3.0]


@pytest.mark.model
async def test_the_embedded_backend_counts(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    head = "".join(f"value_{n} = {n * n}\n" for n in range(12))
    for prompt in (head + "total = ", head + "total = value"):
        async with aclosing(backend.stream(GenerationRequest(prompt, max_tokens=3, timeout_s=60.0))) as tokens:
            assert [token async for token in tokens]
    first = backend.counters.to_json()
    assert first["decoded_tokens"] == 6
    assert first["timed_tokens"] == 4
    assert first["unread_tokens"] == 0
    assert 0.4 < first["reused_tokens"] / first["prompt_tokens"] < 0.5  # nearly all of the second prompt, nothing of the first
    assert first["given_up"] == 0

    stream = backend.stream(GenerationRequest(head + "total = value", max_tokens=400, timeout_s=60.0))
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await backend.warm_up()  # the model's thread has come to the next job, so it is done with this one
    last = backend.counters.to_json()
    assert (last["given_up"], len(last["given_up_ms"]), last["ended_ms"]) == (1, 1, first["ended_ms"])
    assert 1 <= last["given_up_tokens"] == last["decoded_tokens"] - 6 < 400
    await backend.aclose()


@pytest.mark.model
async def test_what_is_given_up_while_its_line_ends_counts_as_given_up(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    line = GenerationRequest("import os\nimport sys\nimport ", max_tokens=40, timeout_s=60.0, one_line=True)
    whole = [token async for token in backend.stream(line) if not token.is_end_mark]
    assert whole[-1].text.endswith("\n")
    counters, tokens = backend.counters, [0]
    for _ in range(20):  # who is late finds the line ended; who is early ends it before
        before, stream = counters.given_up_tokens, backend.stream(line)
        for _ in whole[:-1]:
            await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await stream.aclose()
        await backend.warm_up()
        tokens.append(counters.given_up_tokens - before)
        if tokens[-1] == len(whole):
            break
    assert max(tokens) == len(whole)
    await backend.aclose()
