"""The proxy between an agent and a model server: what is kept is what the server drew, and what fails is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from coderl_generator.errors import BackendRefused
from coderl_trainer.repair.chat_wire import Sampling, asked
from coderl_trainer.repair.proxy import Proxy

from ..vllm_double import VllmDouble
from .chat_toy import chat_server, toy_render

MESSAGES = [{"role": "user", "content": "say something"}]


@pytest.fixture
def server() -> Iterator[VllmDouble]:
    with chat_server() as double:
        yield double


@pytest.fixture
def proxy(server: VllmDouble) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


def post(proxy: Proxy, key: str, body: Any, path: str = "chat/completions") -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(proxy.socket))
    with httpx.Client(transport=transport, base_url="http://proxy") as client:
        return client.post(f"/runs/{key}/v1/{path}", json=body)


@pytest.mark.parametrize("stream", [False, True])
def test_the_tokens_of_a_turn_are_those_that_the_server_drew(proxy: Proxy, server: VllmDouble, stream: bool) -> None:
    key = proxy.open("served", Sampling(max_tokens=8, seed=3))
    response = post(proxy, key, {"model": "mine", "messages": MESSAGES, "stream": stream})
    assert response.status_code == 200
    recorded = proxy.close_run(key)
    (turn,) = recorded.turns
    assert turn.prompt == tuple(toy_render(MESSAGES))
    after = server.weights(None)([*turn.prompt, *turn.tokens])
    expected = [float(after[len(turn.prompt) - 1 + at, token]) for at, token in enumerate(turn.tokens)]
    assert turn.logprobs == pytest.approx(expected, abs=1e-12)
    text = server.decode(turn.tokens)
    if stream:
        events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert "".join(choice["delta"].get("content", "") for one in chunks for choice in one["choices"]) == text
    else:
        chunks = [response.json()]
        assert chunks[0]["choices"][0]["message"]["content"] == text
    for one in chunks:  # what the agent did not ask for is not shown to it
        assert "prompt_token_ids" not in one
        assert all(choice.keys().isdisjoint({"token_ids", "logprobs"}) for choice in one["choices"])
    assert [(call.name, json.loads(call.arguments)) for call in turn.calls] == [("read_file", {"path": text[:1].strip()})]
    (sent,) = server.asked("/v1/chat/completions")
    assert (sent["model"], sent["seed"], sent["max_tokens"]) == ("served", 3, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_that_asks_for_tokens_gets_them(proxy: Proxy, stream: bool) -> None:
    key = proxy.open("served")
    more = {"return_token_ids": True, "logprobs": True, "stream": stream}
    text = post(proxy, key, {"messages": MESSAGES, **more}).text
    assert "prompt_token_ids" in text
    assert '"token_ids"' in text
    assert '"logprob"' in text


def test_training_draws_from_the_whole_distribution(proxy: Proxy, server: VllmDouble) -> None:
    bent = {"temperature": 0.1, "top_p": 0.5, "top_k": 3, "repetition_penalty": 1.3, "logit_bias": {"1": 5}, "seed": 1}
    forced = {"tool_choice": "required", "response_format": {"type": "json_object"}, "min_tokens": 4, "max_tokens": 2}
    tools = [{"type": "function", "function": {"name": "shell"}}]
    post(proxy, proxy.open("served", Sampling(8)), {"messages": MESSAGES, "tools": tools, **bent, **forced})
    post(proxy, proxy.open("served"), {"messages": MESSAGES, "tools": tools, **bent, **forced})
    trained, measured = server.asked("/v1/chat/completions")
    assert (trained["temperature"], trained["top_p"], trained["top_k"], trained["repetition_penalty"]) == (1.0, 1.0, 0, 1.0)
    assert trained.keys().isdisjoint({"logit_bias", "response_format", "min_tokens", "tool_choice"})
    assert (trained["max_tokens"], trained["seed"], trained["tools"]) == (2, 0, tools)
    assert {name: measured[name] for name in bent} == bent


def test_turns_of_one_run_stay_together(proxy: Proxy, server: VllmDouble) -> None:
    keys = [proxy.open("served", Sampling(4, seed)) for seed in (1, 2)]
    for key in (*keys, *keys):
        assert post(proxy, key, {"messages": MESSAGES}).status_code == 200
    first, second = (proxy.close_run(key) for key in keys)
    assert (len(first.turns), len(second.turns)) == (2, 2)
    assert [body["seed"] for body in server.asked("/v1/chat/completions")] == [1, 2, 2, 3]
    assert post(proxy, keys[0], {"messages": MESSAGES}).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": "x"}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": MESSAGES, "n": 2}, "one answer at a time"),
        ([1], "no JSON object"),
    ],
)
def test_a_wrong_request_is_the_agents_fault(proxy: Proxy, body: Any, said: str) -> None:
    key = proxy.open("served", Sampling())
    response = post(proxy, key, body)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    assert proxy.close_run(key).broken == ""


@pytest.mark.parametrize("path", ["completions", "../../x", "embeddings", "chat"])
def test_other_addresses_are_not_there(proxy: Proxy, path: str) -> None:
    assert post(proxy, proxy.open("served"), {"messages": MESSAGES}, path).status_code == 404
    assert post(proxy, "0" * 32, {"messages": MESSAGES}).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_without_tokens_breaks_the_run(proxy: Proxy, server: VllmDouble, stream: bool) -> None:
    server.gives_ids = False
    key = proxy.open("served", Sampling())
    response = post(proxy, key, {"messages": MESSAGES, "stream": stream})
    assert stream or response.status_code == 502
    recorded = proxy.close_run(key)
    assert (recorded.turns, "return_token_ids" in recorded.broken) == ([], True)


def test_where_it_is_only_measured_tokens_are_not_needed(server: VllmDouble) -> None:
    server.gives_ids = False
    with Proxy(server.address, exact=False) as proxy:
        key = proxy.open("served")
        assert post(proxy, key, {"messages": MESSAGES}).status_code == 200
        recorded = proxy.close_run(key)
    assert (len(recorded.turns), recorded.broken, recorded.turns[0].tokens) == (1, "", ())


def test_a_server_that_fails_breaks_the_run_and_one_that_refuses_does_not(server: VllmDouble, proxy: Proxy) -> None:
    server.failures = 1
    key = proxy.open("served", Sampling())
    assert post(proxy, key, {"messages": MESSAGES}).status_code == 502
    assert "the engine is dead" in proxy.close_run(key).broken
    key = proxy.open("forgotten", Sampling())
    post(proxy, key, {"messages": MESSAGES})
    assert "does not exist" in proxy.close_run(key).broken
    with Proxy("http://127.0.0.1:9") as nowhere:
        key = nowhere.open("served", Sampling())
        assert post(nowhere, key, {"messages": MESSAGES}).status_code == 502
        assert "cannot be reached" in nowhere.close_run(key).broken


def test_the_key_of_the_server_is_sent_to_it_alone(server: VllmDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendRefused, match="NO_SUCH_KEY"):
        Proxy(server.address, api_key_env="NO_SUCH_KEY")
    with pytest.raises(BackendRefused, match="must begin with http"):
        Proxy("localhost:8000")
    assert "authorization" not in json.dumps(asked({"messages": MESSAGES}, "m", None, 0)).lower()


def test_it_says_which_model_there_is(proxy: Proxy) -> None:
    transport = httpx.HTTPTransport(uds=str(proxy.socket))
    with httpx.Client(transport=transport, base_url="http://proxy") as client:
        answer = client.get(f"/runs/{proxy.open('served')}/v1/models").json()
    assert [one["id"] for one in answer["data"]] == ["served"]
