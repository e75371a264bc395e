"""The OpenAI-compatible backend against a real HTTP server on loopback that answers with given bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coderl_generator.adapters import Adapter
from coderl_generator.backend import FinishReason, GenerationRequest, Token
from coderl_generator.errors import (
    BackendRefused,
    BackendUnavailable,
    GenerationTimedOut,
    GeneratorError,
    PromptTooLong,
)
from coderl_generator.openai_http import OpenAiBackend

HANG = None
PROMPT = "secret_plan = load('treasure map')\n"


@dataclass
class Canned:
    """A server that answers every request with the same bytes; `HANG` in their place waits until the client goes."""

    answer: Sequence[bytes | None]
    port: int = 0
    heads: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed its connection during a `HANG`."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = int(head.lower().split("content-length:")[1].split()[0])
            self.bodies.append(json.loads(await reader.readexactly(length)))
            for part in self.answer:
                if part is HANG:
                    await reader.read()
                    self.left.set()
                    break
                writer.write(part)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def canned(*answer: bytes | None) -> AsyncIterator[tuple[Canned, OpenAiBackend]]:
    server = Canned(answer)
    handlers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(server.handle(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    backend = OpenAiBackend(f"http://127.0.0.1:{server.port}/v1/", "org/Model-7B")
    yield server, backend
    await backend.aclose()
    listener.close()
    await asyncio.gather(*handlers)
    await listener.wait_closed()


def head(status: str = "200 OK", kind: str = "text/event-stream") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()


def failed(status: str, answer: object) -> bytes:
    return head(status, "application/json") + json.dumps(answer).encode()


def event(
    text: str, *, tokens: list[str] | None = None, logprobs: list[float] | None = None, finish: str | None = None
) -> bytes:
    """vLLM's and OpenAI's form, with raw UTF-8 as vLLM sends it."""
    lists = {"tokens": tokens or [text], "token_logprobs": logprobs or [-0.5]} if text or tokens else None
    chunk = {"choices": [{"index": 0, "text": text, "logprobs": lists, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def collect(backend: OpenAiBackend, **options: object) -> list[Token]:
    request = GenerationRequest(PROMPT, **{"max_tokens": 8, "timeout_s": 30.0, **options})  # type: ignore[arg-type]  # by name
    return [token async for token in backend.stream(request)]


async def test_vllms_form_is_read() -> None:
    parts = [event(" a"), event(" b c", tokens=[" b", " c"], logprobs=[-1.0, -2.0]), event("", finish="length"), DONE]
    async with canned(head(), *parts) as (server, backend):
        tokens = await collect(backend)
    assert [(token.text, token.logprob) for token in tokens] == [(" a", -0.5), (" b", -1.0), (" c", -2.0), ("", 0.0)]
    assert tokens[-1].finish is FinishReason.LENGTH
    assert server.bodies[0]["logprobs"] == 1
    assert server.bodies[0]["stream"] is True
    assert "suffix" not in server.bodies[0]
    assert backend.generator_id == "model-7b"


async def test_llama_servers_form_is_read_with_ids() -> None:
    content = [{"id": 472, "token": "\n   ", "bytes": [10], "logprob": -0.2, "top_logprobs": []}]
    chunk = {"choices": [{"text": "\n   ", "index": 0, "logprobs": {"content": content}, "finish_reason": None}]}
    last = {"choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]}
    lines = [f"data: {json.dumps(one)}\n\n".encode() for one in (chunk, last)]
    async with canned(head(), *lines, DONE) as (_, backend):
        tokens = await collect(backend)
    assert [(token.text, token.id) for token in tokens] == [("\n   ", 472), ("", -1)]
    assert tokens[-1].finish is FinishReason.END


async def test_the_suffix_goes_into_its_own_field() -> None:
    async with canned(head(), event("x", finish="stop"), DONE) as (server, backend):
        await collect(backend, suffix=")\n", seed=7)
    assert server.bodies[0]["suffix"] == ")\n"
    assert server.bodies[0]["seed"] == 7


async def test_a_stream_cut_into_single_bytes_and_unusual_line_separators_is_whole() -> None:
    stream = event("é\u2028\u0085x", tokens=["é\u2028\u0085x"]) + b": ping\n\n" + event("日", finish="stop") + DONE
    async with canned(head(), *(bytes([byte]) for byte in stream)) as (_, backend):
        tokens = await collect(backend)
    assert "".join(token.text for token in tokens) == "é\u2028\u0085x日"


async def test_parts_of_a_character_come_with_its_last_token() -> None:
    parts = event("", tokens=["bytes:\\xe6\\x97"]), event("日", tokens=["bytes:\\xa5"], finish="stop")
    async with canned(head(), *parts, DONE) as (_, backend):
        tokens = await collect(backend)
    assert [token.text for token in tokens] == ["", "日", ""]
    assert not tokens[0].is_end_mark


async def test_a_server_without_logprobs_is_refused_with_a_sentence() -> None:
    chunk = {"choices": [{"index": 0, "text": "x", "logprobs": None, "finish_reason": None}]}
    async with canned(head(), b"data: " + json.dumps(chunk).encode() + b"\n\n") as (_, backend):
        with pytest.raises(BackendRefused, match="log-probs"):
            await collect(backend)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (failed("400 Bad Request", {"error": {"message": "temperature must be below 2"}}), BackendRefused),
        (failed("404 Not Found", {"detail": "model not found"}), BackendRefused),
        (failed("401 Unauthorized", {"error": "bad key"}), BackendRefused),
        (failed("302 Found", {}), BackendRefused),
        (failed("400 Bad Request", {"error": {"message": "This model's maximum context length is 8 tokens"}}), PromptTooLong),
        (failed("429 Too Many Requests", {"error": {"message": "slow down"}}), BackendUnavailable),
        (failed("500 Internal Server Error", {}), BackendUnavailable),
        (head("502 Bad Gateway", "text/html") + b"<html>oops</html>", BackendUnavailable),
        (head(kind="text/html") + b"<html>a portal</html>", BackendUnavailable),
        (head() + b"data: {not json\n\n", BackendUnavailable),
        (head() + b'data: ["a list"]\n\n', BackendUnavailable),
        (head() + b'data: {"choices": [{"text": 7, "logprobs": {"tokens": 1}}]}\n\n', BackendUnavailable),
        (head() + b'data: {"error": {"message": "the engine died", "code": 500}}\n\n', BackendUnavailable),
        (head() + DONE, BackendUnavailable),
        (head() + b"data: " + b"x" * (1 << 21), BackendUnavailable),
        (b"this is no HTTP\r\n\r\n", BackendUnavailable),
        (b"", BackendUnavailable),
    ],
)
async def test_every_bad_answer_has_its_error_and_is_not_tried_again(answer: bytes, error: type[GeneratorError]) -> None:
    async with canned(answer) as (server, backend):
        with pytest.raises(error) as caught:
            await collect(backend)
    assert type(caught.value) is error
    assert len(server.bodies) == 1


async def test_messages_never_repeat_the_prompt() -> None:
    echo = {"error": {"message": f"cannot parse: {PROMPT!s} (in field prompt)"}}
    async with canned(failed("400 Bad Request", echo)) as (_, backend):
        with pytest.raises(BackendRefused) as caught:
            await collect(backend)
    assert "treasure" not in str(caught.value)
    async with canned(failed("400 Bad Request", {"error": {"message": "top_p must be positive"}})) as (_, backend):
        with pytest.raises(BackendRefused, match="top_p must be positive"):
            await collect(backend)


async def test_a_connection_that_dies_in_mid_stream_keeps_what_came() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = event("half")
    came: list[str] = []
    async with canned(chunked + b"%x\r\n%s\r\n" % (len(data), data)) as (_, backend):
        stream = backend.stream(GenerationRequest(PROMPT, timeout_s=30.0))
        came.append((await anext(stream)).text)
        with pytest.raises(BackendUnavailable, match="broke"):
            await anext(stream)
    assert came == ["half"]


async def test_a_server_that_falls_silent_times_out_and_a_deadline_ends_in_peace() -> None:
    async with canned(head(), event("a"), HANG) as (_, backend):
        with pytest.raises(GenerationTimedOut):
            await collect(backend, timeout_s=0.05)
    async with canned(head(), event("a"), HANG) as (_, backend):
        tokens = await collect(backend, deadline_s=0.5)
    assert [token.text for token in tokens] == ["a", ""]
    assert tokens[-1].finish is FinishReason.DEADLINE


async def test_closing_the_stream_closes_the_connection() -> None:
    async with canned(head(), event("a"), HANG) as (server, backend):
        stream = backend.stream(GenerationRequest(PROMPT, timeout_s=30.0))
        await anext(stream)
        assert not server.left.is_set()
        await stream.aclose()
        await asyncio.wait_for(server.left.wait(), 30)


async def test_a_stop_text_is_matched_here_and_closes_the_connection() -> None:
    async with canned(head(), event("a\n"), event("\nb"), HANG) as (server, backend):
        tokens = await collect(backend, stop=("\n\n",))
        await asyncio.wait_for(server.left.wait(), 30)
    assert "".join(token.text for token in tokens) == "a"
    assert tokens[-1].finish is FinishReason.STOP
    assert "stop" not in server.bodies[0]


async def test_shutting_down_ends_a_waiting_stream() -> None:
    async with canned(head(), event("a"), HANG) as (_, backend):
        stream = backend.stream(GenerationRequest(PROMPT, timeout_s=30.0))
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await backend.aclose()
        with pytest.raises(BackendUnavailable, match="shut down"):
            await waiting


async def test_a_refused_connection_is_tried_twice_then_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        backend = OpenAiBackend(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "m")
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            await collect(backend)
        await backend.aclose()


async def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with canned(head(), event("x", finish="stop"), DONE) as (server, _):
        backend = OpenAiBackend(f"http://127.0.0.1:{server.port}/v1", "m", api_key_env="MY_MODEL_KEY")
        with pytest.raises(BackendRefused, match="MY_MODEL_KEY"):
            await collect(backend)
        monkeypatch.setenv("MY_MODEL_KEY", "s3cret")
        await collect(backend)
        await backend.aclose()
    assert "authorization: bearer s3cret" in server.heads[0].lower()


def test_an_address_without_a_scheme_is_a_users_mistake() -> None:
    with pytest.raises(GeneratorError, match="http://"):
        OpenAiBackend("localhost:8000/v1", "m")


# -- adapters -----------------------------------------------------------------------------------------------------------------

TEAM, NIGHT = Adapter("team", "1", "/models/team-1"), Adapter("night", "2", "/models/night-2")
LOADED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def asked(server: Canned) -> list[tuple[str, object]]:
    """What was asked for, in order: the path, and the model or the adapter."""
    paths = [one.split()[1].removeprefix("/v1/") for one in server.heads]
    return [(path, body.get("model") or body["lora_name"]) for path, body in zip(paths, server.bodies, strict=True)]


async def test_an_adapter_is_loaded_by_its_label_and_is_the_model_from_then_on() -> None:
    async with canned(LOADED) as (server, backend):
        await backend.use_adapter(TEAM)
        assert backend.generator_id == "model-7b+team@1"
        server.answer = (head(), event("x", finish="stop"), DONE)
        await collect(backend)
        await backend.use_adapter(None)
        await collect(backend)
        assert backend.generator_id == "model-7b"
    assert server.bodies[0] == {"lora_name": "team@1", "lora_path": "/models/team-1"}
    assert asked(server) == [
        ("load_lora_adapter", "team@1"),
        ("completions", "team@1"),
        ("completions", "org/Model-7B"),
    ]


async def test_a_replaced_adapter_is_unloaded_after_its_last_stream_where_the_server_is_ours_alone() -> None:
    async with canned(LOADED) as (server, _):
        backend = OpenAiBackend(f"http://127.0.0.1:{server.port}/v1", "m", unload_adapters=True)
        await backend.use_adapter(TEAM)
        server.answer = (head(), event("a"), event("b", finish="stop"), DONE)
        running = backend.stream(GenerationRequest(PROMPT, timeout_s=30.0))
        await anext(running)
        server.answer = (LOADED,)
        await backend.use_adapter(NIGHT)
        assert ("unload_lora_adapter", "team@1") not in asked(server)
        assert [token.text async for token in running] == ["b", ""]
        async with asyncio.timeout(30):
            while len(server.bodies) < 4:  # noqa: ASYNC110  # the server is told in a task of the backend's own
                await asyncio.sleep(0.01)
        await backend.aclose()
    assert asked(server)[2:] == [("load_lora_adapter", "night@2"), ("unload_lora_adapter", "team@1")]


async def test_an_adapter_that_is_loaded_already_is_fine_and_one_that_is_taken_back_stays() -> None:
    loaded = {"error": {"message": "The lora adapter 'team@1' has already been loaded.", "code": 400}}
    async with canned(failed("400 Bad Request", loaded)) as (server, _):
        backend = OpenAiBackend(f"http://127.0.0.1:{server.port}/v1", "m", unload_adapters=True)
        await backend.use_adapter(TEAM)
        await backend.use_adapter(None)
        await backend.use_adapter(TEAM)
        for _ in range(10):
            await asyncio.sleep(0)
        assert backend.generator_id == "m+team@1"
        await backend.aclose()
    assert [path for path, _ in asked(server)] == ["load_lora_adapter", "load_lora_adapter"]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (failed("404 Not Found", {"detail": "Not Found"}), BackendRefused, "--enable-lora"),
        (failed("404 Not Found", {"error": {"message": "No adapter found for /models/team-1"}}), BackendRefused, "No adapter"),
        (failed("500 Internal Server Error", {"error": {"message": "rank 64 is too high"}}), BackendUnavailable, "rank 64"),
        (b"", BackendUnavailable, "did not answer"),
    ],
)
async def test_an_adapter_that_is_refused_changes_nothing(answer: bytes, error: type[GeneratorError], said: str) -> None:
    async with canned(answer) as (_, backend):
        with pytest.raises(error, match=said):
            await backend.use_adapter(TEAM)
        assert backend.generator_id == "model-7b"


async def test_an_empty_prompt_is_an_empty_generation_and_one_with_a_suffix_is_asked() -> None:
    async with canned(head(), event("x", finish="stop"), DONE) as (server, backend):
        tokens = [token async for token in backend.stream(GenerationRequest(""))]
        assert [token.finish for token in tokens] == [FinishReason.END]
        assert server.bodies == []
        tokens = [token async for token in backend.stream(GenerationRequest("", suffix="y\n"))]
    assert tokens[0].text == "x"
