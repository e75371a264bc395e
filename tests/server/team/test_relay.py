"""The relay: OpenAI's form, turns, clients that leave, a server that leaves, and no text where none belongs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import BackendRefused, BackendUnavailable, PromptTooLong
from coderl_generator.openai_http import OpenAiBackend
from coderl_generator.scripted import Failure, Rule, Script
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.home import home
from coderl_store.members import Role
from coderl_store.memory import MemoryLog

from .conftest import Team, built

SECRET = "def launch_codes(): return 'hunter2'"
LONG = Rule(text="word " * 2000, pattern=r"slow\Z", delay_ms=5.0)
SCRIPT = Script(
    rules=(
        LONG,
        Rule(text="x", pattern=r"never\Z", first_delay_ms=3_600_000.0),
        Rule(text="half a", pattern=r"die\Z", failure=Failure.UNAVAILABLE),
        Rule(pattern=r"gone\Z", failure=Failure.UNAVAILABLE),
        Rule(pattern=r"refuse\Z", failure=Failure.REFUSED),
        Rule(text="some", pattern=r"hang\Z", failure=Failure.HANG),
    ),
    default=Rule(text="one two\nthree", logprobs=(-0.1, -0.2, -0.3)),
)


def team_of(at_once: int = 8, **limits: Any) -> Team:
    return built(home(), TeamSettings(limits=Limits(**limits)), MemoryLog(), SCRIPT, at_once)


def events(text: str) -> list[Any]:
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def figure(team: Team, name: str) -> float:
    lines = team.parts.metrics.text().splitlines()
    found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


async def until(condition: Callable[[], bool]) -> None:
    """The test's own time limit ends what never comes."""
    while not condition():  # noqa: ASYNC110  # nobody announces it
        await asyncio.sleep(0.01)


async def test_a_completion_whole_and_as_events_is_the_same() -> None:
    team = team_of()
    asked = {"prompt": "x", "max_tokens": 100, "logprobs": 1, "model": "scripted", "best_of": 1, "presence_penalty": 0}
    async with team.running(), team.client() as client:
        whole = (await client.post("/v1/completions", json=asked)).json()
        streamed = events((await client.post("/v1/completions", json={**asked, "stream": True})).text)
        listed = (await client.get("/v1/models")).json()["data"]
    choice = whole["choices"][0]
    assert (whole["object"], whole["model"], choice["finish_reason"]) == ("text_completion", "scripted", "stop")
    assert choice["text"] == "one two\nthree"
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["token_logprobs"][:3] == [-0.1, -0.2, -0.3]
    assert choice["logprobs"]["text_offset"][:3] == [0, 3, 7]
    assert "".join(one["choices"][0]["text"] for one in streamed) == choice["text"]
    assert [one["choices"][0]["finish_reason"] for one in streamed] == [None] * (len(streamed) - 1) + ["stop"]
    entries = [entry for one in streamed[:-1] for entry in one["choices"][0]["logprobs"]["content"]]
    assert entries == choice["logprobs"]["content"]
    assert (listed[0]["id"], listed[0]["template"], listed[0]["forces_beginning"]) == ("scripted", "plain", False)


async def test_stop_texts_and_limits_end_a_completion() -> None:
    team = team_of()
    async with team.running(), team.client() as client:
        for asked, text, reason in (
            ({"stop": ["\n"]}, "one two", "stop"),
            ({"stop": "two"}, "one ", "stop"),
            ({"max_tokens": 1}, "one", "length"),
            ({"prompt": "slow", "max_tokens": 4000, "deadline_s": 0.2}, None, "length"),
        ):
            answer = await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 100, **asked})
            choice = answer.json()["choices"][0]
            assert choice["finish_reason"] == reason, asked
            assert choice["text"] == text or (text is None and choice["text"].startswith("word"))
            assert choice["logprobs"] is None


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("gone", 503, "unavailable"),
        ("refuse", 502, "generator_refused"),
        ("x" * 20_001, 400, "prompt_too_long"),
        ("hang", 504, "generator_timeout"),
    ],
)
async def test_what_fails_has_a_status_and_quotes_nothing(
    prompt: str, status: int, code: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    team = team_of(generation_s=0.1)
    monkeypatch.setattr("coderl_server.team.relay.HUNG_S", 0.2)
    async with team.running(), team.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": f"{SECRET}\n{prompt}", "suffix": SECRET})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "hunter2" not in answer.text + caplog.text
    assert figure(team, "coderl_completions_total") == 1


async def test_what_fails_in_the_middle_ends_the_stream_with_an_event() -> None:
    team = team_of()
    async with team.running(), team.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": "die", "stream": True})
    *_, last = events(answer.text)
    assert (answer.status_code, last["error"]["code"], last["error"]["type"]) == (200, 503, "unavailable")
    async with team.on_port() as url:
        backend = OpenAiBackend(f"{url}/v1", "scripted")
        with pytest.raises(BackendUnavailable):
            [token async for token in backend.stream(GenerationRequest("die"))]
        await backend.aclose()


async def test_our_own_backend_uses_it_as_its_server_ids_included() -> None:
    team = team_of()
    async with team.on_port() as url:
        backend = OpenAiBackend(f"{url}/v1", "scripted")
        through = [token async for token in backend.stream(GenerationRequest("x"))]
        direct = [token async for token in team.model.stream(GenerationRequest("x"))]
        assert through == direct
        with pytest.raises(PromptTooLong):
            [token async for token in backend.stream(GenerationRequest("x" * 20_001))]
        await backend.aclose()
        other = OpenAiBackend(f"{url}/v1", "another")
        with pytest.raises(BackendRefused, match="Another model is served"):
            [token async for token in other.stream(GenerationRequest("x"))]
        await other.aclose()


async def test_when_the_client_leaves_decoding_stops() -> None:
    team = team_of()
    async with team.on_port() as url:
        backend = OpenAiBackend(f"{url}/v1", "scripted")
        async with aclosing(backend.stream(GenerationRequest("slow", max_tokens=2000))) as tokens:
            async for _ in tokens:
                break
        await until(lambda: figure(team, "coderl_generations_running") == 0)
        decoded = team.model.decoded_tokens
        assert decoded < 1000
        await asyncio.sleep(0.1)
        assert team.model.decoded_tokens == decoded
        await backend.aclose()
    assert 'coderl_completions_total{outcome="cancelled"} 1' in team.parts.metrics.text()


async def test_who_leaves_the_line_is_never_decoded() -> None:
    team = team_of(at_once=1)
    async with team.on_port() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        first = asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "never"}))
        await until(lambda: figure(team, "coderl_generations_running") == 1)
        second = asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "slow"}))
        await until(lambda: figure(team, "coderl_generations_waiting") == 1)
        second.cancel()
        await until(lambda: figure(team, "coderl_generations_waiting") == 0)
        first.cancel()
        await until(lambda: figure(team, "coderl_generations_running") == 0)
        third = await client.post("/v1/completions", json={"prompt": "x"})
    assert third.status_code == 200
    assert [request.prompt for request in team.model.requests] == ["never", "x"]


async def test_the_line_is_bounded_in_all_and_per_caller() -> None:
    team = team_of(at_once=1, generations_waiting=2, generations_per_caller=2, generation_wait_s=600)
    ada, bob = (team.mint(Role.INGEST, name).text for name in ("ada", "bob"))
    async with team.running(), team.client(ada) as one, team.client(bob) as other:

        async def ask(client: httpx.AsyncClient, prompt: str) -> httpx.Response:
            return await client.post("/v1/completions", json={"prompt": prompt})

        waiting = [asyncio.ensure_future(ask(client, "never")) for client in (one, one, other)]
        await until(lambda: figure(team, "coderl_generations_waiting") == 2)
        mine, full = await ask(one, "x"), await ask(other, "x")
        assert (mine.status_code, mine.json()["code"], mine.headers["Retry-After"]) == (429, "too_many_at_once", "1")
        assert (full.status_code, full.json()["code"], full.headers["Retry-After"]) == (503, "busy", "600")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    team = team_of(at_once=1, generation_wait_s=0.1)
    async with team.running(), team.client() as client:
        first = asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "never"}))
        await until(lambda: figure(team, "coderl_generations_running") == 1)
        answer = await client.post("/v1/completions", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_on_leaving_streams_end_with_an_event_and_who_waits_is_refused() -> None:
    team = team_of(at_once=1, drain_s=0.2)
    async with team.running(), team.client() as client:
        stream = asyncio.ensure_future(
            client.post("/v1/completions", json={"prompt": "slow", "stream": True, "max_tokens": 4000})
        )
        await until(lambda: team.model.decoded_tokens > 0)
        waiting = asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "x"}))
        await until(lambda: figure(team, "coderl_generations_waiting") == 1)
        team.parts.drain.begin()
        refused, late = await waiting, await client.post("/v1/completions", json={"prompt": "x"})
        assert [(one.status_code, one.json()["code"]) for one in (refused, late)] == [(503, "leaving")] * 2
        *_, last = events((await stream).text)
        assert last["error"]["type"] == "leaving"


async def test_on_leaving_a_short_stream_is_finished() -> None:
    team = team_of(drain_s=600)
    async with team.running(), team.client() as client:
        asked = {"prompt": "slow", "stream": True, "max_tokens": 20}
        stream = asyncio.ensure_future(client.post("/v1/completions", json=asked))
        await until(lambda: team.model.decoded_tokens > 0)
        team.parts.drain.begin()
        found = events((await stream).text)
    assert (len(found), found[-1]["choices"][0]["finish_reason"]) == (21, "length")


async def test_without_a_model_the_answer_says_how_to_serve_one() -> None:
    team = team_of()
    object.__setattr__(team.parts, "generation", None)
    async with team.running(), team.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "no_generator")
        assert "--backend llamacpp" in answer.json()["detail"]
        assert (await client.get("/v1/models")).json()["data"] == []
