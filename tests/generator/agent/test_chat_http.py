from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.generator.agent.chat_server import Answer, chunks, serving

from coderl_generator.agent.calls import Parameter, RawCall, ToolSpec
from coderl_generator.agent.chat import Reply, Sampling, estimated_tokens, seems_without_tools
from coderl_generator.agent.chat_http import HttpChat
from coderl_generator.errors import BackendRefused, BackendUnavailable, GeneratorError, PromptTooLong, ToolsRefused

SPEC = ToolSpec("read_file", "Read.", (Parameter("path", "string", "P."),))
MESSAGES = [{"role": "user", "content": "hello"}]


def ask(base_url: str, **options: Any) -> Any:
    chat = HttpChat(base_url, "m", **options)
    try:
        return chat.reply(MESSAGES, [SPEC], Sampling(seed=3), timeout_s=20)
    finally:
        chat.close()


def test_a_streamed_reply_with_calls() -> None:
    heard: list[str] = []
    with serving(lambda body, number: (200, chunks("I read.", [("read_file", {"path": "é.py"})]))) as server:
        chat = HttpChat(server.base_url, "m")
        reply = chat.reply(MESSAGES, [SPEC], Sampling(seed=3), timeout_s=20, heard=heard.append)
        chat.close()
    assert (reply.text, reply.finish) == ("I read.", "tool_calls")
    assert reply.calls == (RawCall("c0", "read_file", json.dumps({"path": "é.py"})),)
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 7)
    assert "".join(heard) == "I read."
    (body,) = server.asked
    assert body["messages"] == MESSAGES
    assert body["tools"] == [SPEC.to_json()]
    assert body["seed"] == 3
    assert "logprobs" not in body


def test_a_server_that_does_not_stream() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    with serving(lambda body, number: (200, whole)) as server:
        assert ask(server.base_url).text == "hi"


def test_token_ids_and_logprobs_as_vllm_gives_them() -> None:
    entries = [{"token": "h", "logprob": -0.1}, {"token": "i", "logprob": -0.2}]
    first = {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
    second = {
        "choices": [
            {"delta": {"content": "hi"}, "logprobs": {"content": entries}, "token_ids": [8, 9], "finish_reason": "stop"}
        ]
    }
    with serving(lambda body, number: (200, [first, second])) as server:
        reply = ask(server.base_url, capture=True)
    assert (reply.prompt_ids, reply.token_ids, reply.logprobs) == ((1, 2), (8, 9), (-0.1, -0.2))
    assert server.asked[0]["return_token_ids"] is True
    assert server.asked[0]["logprobs"] is True


def test_ids_that_do_not_fit_the_logprobs_are_not_taken_for_exact() -> None:
    entries = [{"token": "h", "logprob": -0.1}]
    one = {
        "choices": [
            {"delta": {"content": "hi"}, "logprobs": {"content": entries}, "token_ids": [8, 9], "finish_reason": "stop"}
        ]
    }
    with serving(lambda body, number: (200, [one])) as server:
        assert ask(server.base_url).token_ids == ()


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', ToolsRefused),
        (500, "tools param requires --jinja flag", ToolsRefused),
        (400, "This model's maximum context length is 2048 tokens", PromptTooLong),
        (401, "bad key", BackendRefused),
        (503, "busy", BackendUnavailable),
    ],
)
def test_refusals_are_asked_once_only(status: int, message: str, error: type[GeneratorError]) -> None:
    with serving(lambda body, number: (status, {"error": {"message": message}})) as server:
        with pytest.raises(error):
            ask(server.base_url)
        assert len(server.asked) == 1


def test_a_server_without_tools_gets_the_text_protocol_from_then_on() -> None:
    def answer(body: dict[str, Any], number: int) -> Answer:
        return (400, {"error": {"message": "does not support tools"}}) if "tools" in body else (200, chunks("hi"))

    with serving(answer) as server:
        chat = HttpChat(server.base_url, "m")
        with pytest.raises(ToolsRefused):
            chat.reply(MESSAGES, [SPEC], Sampling(), timeout_s=20)
        assert not chat.native_tools
        assert chat.reply(MESSAGES, [SPEC], Sampling(), timeout_s=20).text == "hi"
        chat.close()


@pytest.mark.parametrize("said", [[{"choices": [{"delta": {"content": "hi"}}]}], [{"choices": ["x"]}], [[1]], {"x": 1}])
def test_what_is_no_reply(said: Any) -> None:
    with serving(lambda body, number: (200, said)) as server, pytest.raises(BackendUnavailable):
        ask(server.base_url)


def test_a_prompt_too_short_for_the_tools_is_noticed() -> None:
    specs = [ToolSpec(f"tool_{number}", "Does something useful. " * 5, SPEC.parameters) for number in range(5)]
    messages = [{"role": "user", "content": "word " * 100}]
    whole = estimated_tokens(messages, specs)
    assert seems_without_tools(Reply("", prompt_tokens=110), messages, specs)
    assert not seems_without_tools(Reply("", prompt_tokens=int(whole * 0.8)), messages, specs)
    assert not seems_without_tools(Reply("", prompt_tokens=None), messages, specs)


def test_halves_of_a_character_do_not_break_the_next_request() -> None:
    pieces = [{"choices": [{"delta": {"content": piece}}]} for piece in ("a\ud83d", "\ude00b\ud83d")]
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    with serving(lambda body, number: (200, [*pieces, last])) as server:
        reply = ask(server.base_url)
        assert reply.text == "a😀b�"
        chat = HttpChat(server.base_url, "m")
        chat.reply([reply.message()], [], Sampling(), timeout_s=20)
        chat.close()


@pytest.mark.model
@pytest.mark.slow
def test_a_real_llama_server(embedded_model: Path) -> None:
    """llama.cpp over HTTP, with the embedded model: its chunks, its log-probs, its token ids."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(embedded_model), ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.verbosity, params.cpuparams.n_threads = 512, 1, -1, 2
    server = xllamacpp.Server(params)
    chat = HttpChat(f"{server.listening_address}/v1", "m", native_tools=False, capture=True)
    reply = chat.reply(MESSAGES, [SPEC], Sampling(max_tokens=4), timeout_s=250)
    chat.close()
    assert reply.finish == "length"
    assert len(reply.token_ids) == len(reply.logprobs) == reply.completion_tokens == 4
    assert reply.prompt_tokens
    assert reply.text


def test_nobody_there() -> None:
    with serving(lambda body, number: (200, [])) as server:
        address = server.base_url
    with pytest.raises(BackendUnavailable, match="is it running"):
        ask(address)


def test_the_key_comes_from_the_environment_and_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GeneratorError, match="SECRET_KEY"):
        HttpChat("http://127.0.0.1:1/v1", "m", api_key_env="SECRET_KEY")
    monkeypatch.setenv("SECRET_KEY", "sesame")
    with serving(lambda body, number: (200, chunks("hi"))) as server:
        ask(server.base_url, api_key_env="SECRET_KEY")
    assert server.headers[0]["Authorization"] == "Bearer sesame"
    with pytest.raises(GeneratorError, match="http"):
        HttpChat("ftp://x", "m")
