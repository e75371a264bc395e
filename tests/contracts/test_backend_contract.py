"""One battery for every backend: what `coderl_generator.backend.Backend` promises, asked of each of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.server.team.conftest import built

from coderl_generator.backend import Backend, FinishReason, GenerationRequest, Token, forces_beginning, line_is_complete
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, PromptTooLong
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.openai_http import OpenAiBackend
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend
from coderl_generator.transformers_torch import TransformersBackend
from coderl_generator.vllm_engine import VllmBackend
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.clock import SystemClock
from coderl_store.home import home
from coderl_store.memory import MemoryLog

from .conftest import VllmServer, new_vllm, vllm_figure

LONG = "import os\nimport sys\n\n" * 12
UNICODE_PROMPT = "cities = '日本語: 東京、大阪、"
SCRIPT = Script(
    rules=(
        Rule(text="京都、名古屋'\n", pattern="大阪", logprob=-0.5),
        Rule(text="half", pattern="die here", failure=Failure.UNAVAILABLE, delay_ms=1.0),
        Rule(text="late", pattern=r"# cold\n\Z", first_delay_ms=60_000.0),
    ),
    default=Rule(text="".join(f"\nvalue_{n} = {n}" for n in range(100)), logprob=-0.25, delay_ms=2.0, first_delay_ms=5.0),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under test, with what the battery must know of it."""

    backend: Backend
    decoded: Callable[[], int]
    """Tokens decoded so far where the decoding happens."""
    cold_prompt: str
    """A prompt whose first token takes far longer than a millisecond."""
    slack: int
    """Tokens that may still be decoded after a stream was closed."""
    running: Callable[[], int] = lambda: 0
    """Requests that are being decoded, as the engine itself tells it, where it does."""


@asynccontextmanager
async def scripted_subject() -> AsyncIterator[Subject]:
    backend = ScriptedBackend(SystemClock(), SCRIPT, max_prompt_chars=20_000, forces_beginning=True)
    yield Subject(backend, lambda: backend.decoded_tokens, "# cold\n", slack=0)
    await backend.aclose()


@asynccontextmanager
async def llamacpp_subject(model: Path) -> AsyncIterator[Subject]:
    backend = LlamaCppBackend(model)
    yield Subject(backend, lambda: backend.decoded_tokens, LONG, slack=2)
    await backend.aclose()


@asynccontextmanager
async def openai_subject() -> AsyncIterator[Subject]:
    served = ScriptedBackend(SystemClock(), SCRIPT, max_prompt_chars=20_000)
    handlers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(serve(served, reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = OpenAiBackend(f"http://127.0.0.1:{port}/v1", "served")
    yield Subject(backend, lambda: served.decoded_tokens, "# cold\n", slack=30)
    await backend.aclose()
    server.close()
    await asyncio.gather(*handlers)
    await server.wait_closed()


@asynccontextmanager
async def relay_subject() -> AsyncIterator[Subject]:
    """The team server before a scripted model, behind a real socket."""
    settings = TeamSettings(limits=Limits(requests_per_s=1e6, burst=10**6, generations_per_caller=1000, generation_s=3600))
    team = built(home(), settings, MemoryLog(), SCRIPT, at_once=64)
    async with team.on_port() as url:
        backend = OpenAiBackend(f"{url}/v1", "scripted")
        yield Subject(backend, lambda: team.model.decoded_tokens, "# cold\n", slack=30)
        await backend.aclose()


async def serve(served: ScriptedBackend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small completion server in the manner of vLLM: decoding ends when the client goes away."""
    # A client may go away at any moment; that is no failure of the server.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = json.loads(await reader.readexactly(int(head.split("content-length:")[1].split()[0])))
        request = GenerationRequest(body["prompt"], max_tokens=body["max_tokens"], timeout_s=3600.0)
        answer = asyncio.create_task(stream_answer(served, request, writer))
        gone = asyncio.create_task(reader.read())
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        answer.cancel()
        gone.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def stream_answer(served: ScriptedBackend, request: GenerationRequest, writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    try:
        async with aclosing(served.stream(request)) as tokens:
            async for token in tokens:
                chunks = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks_of(token)]
                writer.write(head + b"".join(b"data: " + chunk.encode() + b"\n\n" for chunk in chunks))
                head = b""
                await writer.drain()
            writer.write(b"data: [DONE]\n\n")
            await writer.drain()
    except PromptTooLong:
        error = json.dumps({"error": {"message": "This model's maximum context length is 2048 tokens"}}).encode()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(error), error))
        await writer.drain()
    except BackendUnavailable:
        writer.transport.abort()


def chunks_of(token: Token) -> list[dict[str, object]]:
    """vLLM's form; a character outside ASCII comes as its bytes, the text with the last of them."""
    if token.is_end_mark:
        reason = "length" if token.finish is FinishReason.LENGTH else "stop"
        return [{"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": reason}]}]
    parts = [f"bytes:\\x{byte:02x}" for byte in token.text.encode()] if not token.text.isascii() else [token.text]
    texts = [""] * (len(parts) - 1) + [token.text]
    return [
        {"choices": [{"text": text, "logprobs": {"tokens": [part], "token_logprobs": [token.logprob]}, "finish_reason": None}]}
        for part, text in zip(parts, texts, strict=True)
    ]


@asynccontextmanager
async def transformers_subject(backend: TransformersBackend) -> AsyncIterator[Subject]:
    yield Subject(backend, lambda: backend.decoded_tokens, LONG, slack=1)


@asynccontextmanager
async def vllm_subject(backend: VllmBackend) -> AsyncIterator[Subject]:
    figure = vllm_figure
    yield Subject(
        backend, lambda: figure("generation_tokens_total"), LONG, slack=2, running=lambda: figure("num_requests_running")
    )


@asynccontextmanager
async def vllm_server_subject(server: VllmServer) -> AsyncIterator[Subject]:
    figure = server.figure
    backend = OpenAiBackend(f"{server.url}/v1", "served")
    yield Subject(
        backend, lambda: figure("generation_tokens_total"), LONG, slack=4, running=lambda: figure("num_requests_running")
    )
    await backend.aclose()


EMBEDDED = pytest.param("llamacpp", marks=pytest.mark.model)
KINDS = ("scripted", EMBEDDED, "openai", "relay", "transformers", "vllm", "vllm-server")


def context_of(kind: str, fixture: Callable[[str], object]) -> AbstractAsyncContextManager[Subject]:
    """A subject; a model that takes long to load is the one of the whole run."""
    if kind == "scripted":
        return scripted_subject()
    if kind == "openai":
        return openai_subject()
    if kind == "relay":
        return relay_subject()
    if kind == "llamacpp":
        return llamacpp_subject(fixture("embedded_model"))  # type: ignore[arg-type]  # a path
    if kind == "transformers":
        return transformers_subject(fixture("transformers_model"))  # type: ignore[arg-type]  # a backend
    if kind == "vllm":
        return vllm_subject(fixture("vllm_model"))  # type: ignore[arg-type]  # a backend
    return vllm_server_subject(fixture("vllm_server"))  # type: ignore[arg-type]  # a server


@pytest.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with context_of(request.param, request.getfixturevalue) as made:
        yield made


@pytest.fixture(params=KINDS)
async def mortal(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """A subject of the test's own, to be shut down."""
    if request.param == "transformers":
        request.getfixturevalue("transformers_model")  # skips where it cannot be
        context = transformers_subject(TransformersBackend(request.getfixturevalue("hf_model")))
    elif request.param == "vllm":
        request.getfixturevalue("vllm_model")
        context = vllm_subject(new_vllm(request.getfixturevalue("hf_model")))
    else:
        context = context_of(request.param, request.getfixturevalue)
    async with context as made:
        warm_up = getattr(made.backend, "warm_up", None)
        if warm_up is not None:  # an engine may take longer to start than a request may wait
            await warm_up()
        yield made


async def collect(backend: Backend, request: GenerationRequest) -> list[Token]:
    async with aclosing(backend.stream(request)) as tokens:
        return [token async for token in tokens]


async def rest_of(stream: AsyncGenerator[Token, None], into: list[Token] | None = None) -> None:
    async for token in stream:
        if into is not None:
            into.append(token)


def text_of(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


async def settled(count: Callable[[], int]) -> int:
    """The count once it has not moved for ten turns of 20 ms."""
    last, still = count(), 0
    while still < 10:
        await asyncio.sleep(0.02)
        still = still + 1 if count() == last else 0
        last = count()
    return last


async def prime(subject: Subject) -> None:
    """Put the prompt into the cache. llama.cpp rounds a prompt that is evaluated in batches and one that comes from its cache
    differently, so greedy decoding repeats itself only from the same state."""
    await collect(subject.backend, ask(max_tokens=1))


def ask(prompt: str = LONG, **options: object) -> GenerationRequest:
    return GenerationRequest(prompt, **{"max_tokens": 16, "timeout_s": 120.0, **options})  # type: ignore[arg-type]  # by name


async def test_it_is_a_backend_with_a_stable_name(subject: Subject) -> None:
    assert isinstance(subject.backend, Backend)
    assert subject.backend.generator_id == subject.backend.generator_id.strip() != ""


async def test_tokens_come_with_logprobs_and_one_end_mark_closes_the_stream(subject: Subject) -> None:
    tokens = await collect(subject.backend, ask())
    *decoded, last = tokens
    assert last.is_end_mark
    assert decoded
    assert not any(token.finish for token in decoded)
    assert all(token.logprob <= 0 and math.isfinite(token.logprob) for token in tokens)
    assert text_of(decoded)


async def test_logprobs_are_those_at_temperature_one_whatever_is_sampled(subject: Subject) -> None:
    await prime(subject)
    greedy, *_ = await collect(subject.backend, ask(max_tokens=1))
    sampled, *_ = await collect(subject.backend, ask(max_tokens=1, temperature=0.01, top_p=0.5, seed=1))
    assert sampled.text == greedy.text
    assert sampled.logprob == pytest.approx(greedy.logprob, abs=0.05)


async def test_max_tokens_ends_the_stream_with_length(subject: Subject) -> None:
    tokens = await collect(subject.backend, ask(max_tokens=5))
    assert tokens[-1].finish is FinishReason.LENGTH
    assert len(tokens) == 6


async def test_greedy_decoding_is_repeatable(subject: Subject) -> None:
    await prime(subject)
    first = await collect(subject.backend, ask())
    second = await collect(subject.backend, ask())
    assert [token.id for token in first] == [token.id for token in second]
    assert text_of(first) == text_of(second)


async def test_a_stop_text_ends_the_stream_and_is_not_part_of_it(subject: Subject) -> None:
    whole = text_of(await collect(subject.backend, ask(max_tokens=24)))
    stop = whole[5:8]
    tokens = await collect(subject.backend, ask(max_tokens=24, stop=(stop,)))
    assert tokens[-1].finish is FinishReason.STOP
    assert text_of(tokens) == whole[: whole.index(stop)]


async def test_one_line_is_a_beginning_of_the_whole_and_holds_the_end_of_the_line(subject: Subject) -> None:
    await prime(subject)
    whole = text_of(await collect(subject.backend, ask(max_tokens=24)))
    tokens = await collect(subject.backend, ask(max_tokens=24, one_line=True))
    text = text_of(tokens)
    assert whole.startswith(text)
    assert text == whole or (line_is_complete(text) and tokens[-1].finish is FinishReason.STOP)


async def test_closing_the_stream_stops_the_decoding(subject: Subject) -> None:
    async with aclosing(subject.backend.stream(ask(max_tokens=400))) as tokens:
        await anext(tokens)
        await anext(tokens)
    at_close = subject.decoded()
    assert await settled(subject.decoded) <= at_close + subject.slack
    assert await settled(subject.running) == 0


async def test_cancelling_the_reading_task_stops_the_decoding(subject: Subject) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(subject.backend.stream(ask(max_tokens=400))) as tokens:
            async for _ in tokens:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    at_cancel = subject.decoded()
    assert await settled(subject.decoded) <= at_cancel + subject.slack
    assert await settled(subject.running) == 0


async def test_several_streams_may_be_open_at_once(subject: Subject) -> None:
    await prime(subject)
    alone = text_of(await collect(subject.backend, ask(max_tokens=8)))
    answers = await asyncio.gather(*(collect(subject.backend, ask(max_tokens=8)) for _ in range(3)))
    assert [text_of(answer) for answer in answers] == [alone] * 3


async def test_an_abandoned_stream_does_not_block_the_next(subject: Subject) -> None:
    async with aclosing(subject.backend.stream(ask(max_tokens=400))) as tokens:
        await anext(tokens)
    assert (await collect(subject.backend, ask(max_tokens=3)))[-1].finish is FinishReason.LENGTH


async def test_a_character_that_spans_tokens_comes_whole(subject: Subject) -> None:
    tokens = await collect(subject.backend, ask(UNICODE_PROMPT, max_tokens=24))
    text = text_of(tokens)
    assert "�" not in text
    assert any(not char.isascii() for char in text)


async def test_a_beginning_is_forced_where_the_backend_says_so(subject: Subject) -> None:
    begins_with = '\n\tzq"x'
    text = text_of(await collect(subject.backend, ask(begins_with=begins_with, max_tokens=16)))
    assert text.startswith(begins_with) or not forces_beginning(subject.backend)
    assert text != begins_with


async def test_an_empty_prompt_is_answered(subject: Subject) -> None:
    tokens = await collect(subject.backend, ask("", max_tokens=4))
    assert tokens[-1].is_end_mark


async def test_a_prompt_beyond_the_context_is_refused_as_such(subject: Subject) -> None:
    with pytest.raises(PromptTooLong):
        await collect(subject.backend, ask("x = 1\n" * 5000))
    assert (await collect(subject.backend, ask(max_tokens=2)))[-1].is_end_mark


async def test_no_token_within_the_timeout_is_an_error(subject: Subject) -> None:
    with pytest.raises(GenerationTimedOut):
        await collect(subject.backend, ask(subject.cold_prompt, timeout_s=0.001))


async def test_at_the_deadline_what_came_before_stands(subject: Subject) -> None:
    request = ask("import os\n", max_tokens=1500, deadline_s=0.1)
    tokens = await collect(subject.backend, request)
    assert tokens[-1].finish is FinishReason.DEADLINE
    nothing = await collect(subject.backend, ask(subject.cold_prompt, deadline_s=0.001))
    assert nothing[-1].finish is FinishReason.DEADLINE


async def test_shutting_down_twice_is_fine_and_ends_everything(mortal: Subject) -> None:
    stream = mortal.backend.stream(ask(max_tokens=400, timeout_s=600.0))
    await anext(stream)
    await mortal.backend.aclose()
    await mortal.backend.aclose()
    with pytest.raises(BackendUnavailable):
        await rest_of(stream)
    with pytest.raises(BackendUnavailable):
        await collect(mortal.backend, ask())


@pytest.mark.parametrize("make", [scripted_subject, openai_subject])
async def test_a_death_in_mid_stream_is_unavailable_after_the_tokens(make: Callable[[], object]) -> None:
    async with make() as subject:  # type: ignore[attr-defined]  # both are context managers
        came: list[Token] = []
        with pytest.raises(BackendUnavailable):
            await rest_of(subject.backend.stream(ask("die here")), came)
        assert text_of(came) == "half"
