"""What a vLLM server is asked for tokens, and what is made of its answers: the shapes, and the errors. How the client behaves
against a server is in tests/trainer/test_served_engine.py."""

from __future__ import annotations

from typing import Any

import pytest

from coderl_generator.errors import BackendRefused, BackendUnavailable, GeneratorError
from coderl_generator.vllm_client import VllmClient
from coderl_generator.vllm_wire import Drawing, Drawn, base_models_of, drawing_body, drawn_of, scores_of, scoring_body


def choice(index: int = 0, **changes: Any) -> dict[str, Any]:
    told = {"tokens": [" a", "\n"], "token_logprobs": [-0.5, 1e-7]}
    return {"index": index, "text": " a\n", "token_ids": [253, 198], "logprobs": told, "finish_reason": "stop", **changes}


def test_samples_are_read_in_their_order() -> None:
    answer = {"choices": [choice(1, finish_reason="length"), choice(0)]}
    assert drawn_of(answer, 2) == [Drawn((253, 198), (-0.5, 0.0), False), Drawn((253, 198), (-0.5, 0.0), True)]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ({}, BackendUnavailable, "no completion"),
        ([], BackendUnavailable, "no completion"),
        ({"choices": []}, BackendUnavailable, "no completion"),
        ({"choices": [choice(), choice(1)]}, BackendUnavailable, "asked for 1 samples and sent 2"),
        ({"choices": [choice(token_ids=None)]}, BackendRefused, "no token ids"),
        ({"choices": [choice(logprobs=None)]}, BackendRefused, "no log-probs"),
        ({"choices": [choice(token_ids=[253])]}, BackendUnavailable, "1 tokens and 2 log-probs"),
    ],
)
def test_what_is_no_sample_with_ids_and_log_probs_is_an_error(answer: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        drawn_of(answer, 1)


def scored(*told: Any) -> dict[str, Any]:
    return {"choices": [choice(prompt_logprobs=list(told))]}


def test_scores_are_those_of_the_tokens_asked_about() -> None:
    told = scored(None, {"7": {"logprob": -1.5, "rank": 3}, "9": {"logprob": -0.1, "rank": 1}}, {"8": {"logprob": -0.25}})
    assert scores_of(told, [5, 7, 8]) == [-1.5, -0.25]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ({"choices": [choice()]}, BackendRefused, "prompt_logprobs"),
        (scored(None, {"7": {"logprob": -1.5}}), BackendUnavailable, "another prompt"),
        (scored(None, {"9": {"logprob": -1.5}}, {"8": {"logprob": -1.0}}), BackendUnavailable, "other tokens"),
        (scored(None, None, {"8": {"logprob": -1.0}}), BackendUnavailable, "other tokens"),
    ],
)
def test_scores_of_anything_else_are_an_error(answer: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        scores_of(answer, [5, 7, 8])


def test_nothing_is_left_to_the_models_own_settings() -> None:
    body = drawing_body("m", (1, 2), 3, Drawing(8, stop=("\n",), end_ids=(0,), seed=4))
    assert {name: body[name] for name in ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")} == {
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    assert (body["prompt"], body["n"], body["seed"], body["return_token_ids"]) == ([1, 2], 3, 4, True)
    assert "seed" not in drawing_body("m", (1,), 1, Drawing(1))
    assert scoring_body("m", (1, 2))["prompt_logprobs"] == 0


def test_adapters_are_no_models() -> None:
    assert base_models_of({"data": [{"id": "served", "parent": None}, {"id": "team@1", "parent": "served"}]}) == ["served"]
    with pytest.raises(BackendUnavailable, match="is it a model server"):
        base_models_of({"detail": "Not Found"})


def test_the_key_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendRefused, match="ROLLOUT_KEY should hold the API key"):
        VllmClient("http://127.0.0.1:9", api_key_env="ROLLOUT_KEY")
    monkeypatch.setenv("ROLLOUT_KEY", "secret")
    client = VllmClient("http://127.0.0.1:9/v1/", api_key_env="ROLLOUT_KEY")
    assert client.address == "http://127.0.0.1:9"
    client.close()


def test_an_address_needs_its_scheme() -> None:
    with pytest.raises(GeneratorError, match="begin with http"):
        VllmClient("127.0.0.1:8000")
