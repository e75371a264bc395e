"""What a vLLM server is asked when tokens are wanted, not text, and what it answers. Pure: no connection, no clock.

`/v1/completions` takes token ids as the prompt and, with `return_token_ids`, gives token ids back: nothing is tokenised twice.
Every parameter that would otherwise come from the model's own `generation_config.json` is sent: with a repetition penalty the
samples would be those of another policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coderl_generator.errors import BackendRefused, BackendUnavailable

_MOST_ALTERNATIVES = 0
"""How many tokens beside the drawn one have their log-prob told."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How tokens are drawn."""

    max_tokens: int
    temperature: float = 1.0
    """0 = the likeliest each time."""
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    """Texts after which the server may end; the token that completes one is the last it sends."""
    end_ids: tuple[int, ...] = ()
    """Tokens after which it ends."""
    seed: int | None = None
    """Of the first sample; the next ones have the numbers after it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One continuation as the server drew it."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural logarithms, at most 0: of the model at temperature 1, unless the server was started with
    `--logprobs-mode processed_logprobs`."""
    cut_off: bool
    """The token budget ended it."""


def drawing_body(model: str, prompt: Sequence[int], samples: int, drawing: Drawing) -> dict[str, Any]:
    """The request for `samples` continuations of one prompt."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(prompt),
        "n": samples,
        "max_tokens": drawing.max_tokens,
        "temperature": drawing.temperature,
        "top_p": drawing.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": list(drawing.stop),
        "stop_token_ids": list(drawing.end_ids),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "logprobs": _MOST_ALTERNATIVES,
        "return_token_ids": True,
    }
    if drawing.seed is not None:
        body["seed"] = drawing.seed
    return body


def scoring_body(model: str, tokens: Sequence[int]) -> dict[str, Any]:
    """The request for the log-probs of given tokens. One more is drawn, because none cannot be asked for."""
    return {**drawing_body(model, tokens, 1, Drawing(1, temperature=0.0)), "prompt_logprobs": 0}


def drawn_of(answer: Any, samples: int) -> list[Drawn]:
    """The continuations in an answer, in their order.

    Raises `BackendRefused` where it has no token ids or no log-probs, `BackendUnavailable` where it is no such answer.
    """
    choices = _choices(answer)
    if len(choices) != samples:
        raise BackendUnavailable(f"the model server was asked for {samples} samples and sent {len(choices)}")
    return [_drawn(choice) for choice in sorted(choices, key=lambda choice: int(choice.get("index", 0)))]


def scores_of(answer: Any, tokens: Sequence[int]) -> list[float]:
    """Log-probs of `tokens` but the first, which nothing stands before.

    Raises `BackendRefused` where the server gives none, `BackendUnavailable` where they are not of these tokens.
    """
    told = _choices(answer)[0].get("prompt_logprobs")
    if told is None:
        raise BackendRefused("the model server gives no log-probs of a prompt's tokens (prompt_logprobs): a vLLM server does")
    if not isinstance(told, list) or len(told) != len(tokens):
        raise BackendUnavailable("the model server sent log-probs of another prompt than it was asked about")
    try:
        return [min(0.0, float(at[str(token)]["logprob"])) for token, at in zip(tokens[1:], told[1:], strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise BackendUnavailable("the model server sent log-probs of other tokens than it was asked about") from error


def base_models_of(answer: Any) -> list[str]:
    """The names under which a server serves whole models, adapters left out (`/v1/models`)."""
    return _models_of(answer, adapters=False)


def adapters_of(answer: Any) -> list[str]:
    """The labels of the adapters that a server serves (`/v1/models`)."""
    return _models_of(answer, adapters=True)


def _models_of(answer: Any, *, adapters: bool) -> list[str]:
    try:
        return [str(one["id"]) for one in answer["data"] if bool(one.get("parent")) is adapters]
    except (KeyError, TypeError, AttributeError) as error:
        raise BackendUnavailable("the server's list of models cannot be read: is it a model server?") from error


def _choices(answer: Any) -> list[Mapping[str, Any]]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
        raise BackendUnavailable("the model server sent something that is no completion")
    return choices


def _drawn(choice: Mapping[str, Any]) -> Drawn:
    tokens, told = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
    if tokens is None or told is None:
        missing = "token ids (return_token_ids)" if tokens is None else "log-probs"
        raise BackendRefused(f"the model server gives no {missing} with its samples: a vLLM server of 0.22 or newer does")
    if len(tokens) != len(told) or any(one is None for one in told):
        raise BackendUnavailable(f"the model server sent {len(tokens)} tokens and {len(told)} log-probs for one sample")
    return Drawn(
        tuple(int(one) for one in tokens),
        tuple(min(0.0, float(one)) for one in told),
        choice.get("finish_reason") == "length",
    )
