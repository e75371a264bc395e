"""What an agent's chat request becomes on its way to the model server, and what is kept of the answer. Pure.

The server is asked for token ids of prompt and answer and for the log-prob of each drawn token (vLLM: `return_token_ids`,
`logprobs`); they are kept as they come and nothing is tokenised again. What an agent did not ask for is not passed on to it.

With `Sampling` a request is what training can learn from: the keys of `PASSED` and nothing else, drawn at temperature 1 from
the whole distribution. So no penalty, bias, grammar or forced tool call bends the distribution whose log-probs are told; an
answer is then a sample of the policy. A server tells log-probs at temperature 1 and before top-p, so others would be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from coderl_generator.errors import BackendRefused, BackendUnavailable

PASSED: Final = frozenset(
    {
        *(
            "messages",
            "tools",
            "stream",
            "stream_options",
            "stop",
            "max_tokens",
            "max_completion_tokens",
            "chat_template_kwargs",
        ),
        *("parallel_tool_calls", "user"),
    }
)
"""Keys of a request that leave the distribution of the next token as it is."""
_WHOLE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
)
"""Everything that would come from a model's own `generation_config.json` otherwise."""
_OURS: Final = ("token_ids", "prompt_token_ids")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn for training."""

    max_tokens: int = 512
    """Most tokens of one answer; an agent may ask for fewer."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer."""

    name: str
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the model, token by token."""

    prompt: tuple[int, ...]
    """Token ids of everything before it, as the server rendered the messages."""
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """(T,) natural logarithms under the distribution that drew them, ≤ 0."""
    cut_off: bool = False
    """The token budget ended it."""
    calls: tuple[Call, ...] = ()


def asked(body: Mapping[str, Any], model: str, sampling: Sampling | None, turn: int) -> dict[str, Any]:
    """The request as the server gets it. Raises `BackendRefused` for what cannot be passed on."""
    if not isinstance(body.get("messages"), list):
        raise BackendRefused("a chat request needs `messages`, a list")
    if body.get("n", 1) != 1:
        raise BackendRefused("one answer at a time: leave `n` out")
    sent = dict(body)
    if sampling is not None:
        sent = {name: value for name, value in body.items() if name in PASSED}
        wanted = [value for name in ("max_completion_tokens", "max_tokens") if isinstance(value := sent.pop(name, None), int)]
        sent |= {**_WHOLE, "max_tokens": min([sampling.max_tokens, *wanted]), "seed": sampling.seed + turn}
        if body.get("tool_choice") in ("auto", "none"):
            sent["tool_choice"] = body["tool_choice"]
    return {**sent, "model": model, "logprobs": True, "return_token_ids": True}


def shown(body: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, or a chunk of one, without what the agent did not ask for."""
    ids, logprobs = bool(body.get("return_token_ids")), bool(body.get("logprobs"))
    if ids and logprobs:
        return answer
    told = {name: value for name, value in answer.items() if ids or name not in _OURS}
    told["choices"] = [
        {name: value for name, value in choice.items() if (ids or name not in _OURS) and (logprobs or name != "logprobs")}
        for choice in answer.get("choices") or ()
    ]
    return told


@dataclass(slots=True)
class Capture:
    """Gathers one turn from a whole answer or from the chunks of a stream."""

    prompt: tuple[int, ...] | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Number → (name, arguments), as far as they came."""

    def add(self, answer: Mapping[str, Any]) -> None:
        """A whole answer or a chunk. Raises `BackendUnavailable` for something else."""
        try:
            prompt = answer.get("prompt_token_ids")
            for choice in answer.get("choices") or ():
                prompt = choice.get("prompt_token_ids") or prompt
                self.tokens += map(int, choice.get("token_ids") or ())
                told = (choice.get("logprobs") or {}).get("content") or ()
                self.logprobs += [min(0.0, float(one["logprob"])) for one in told]
                self.finish = choice.get("finish_reason") or self.finish
                self._add_calls((choice.get("delta") or choice.get("message") or {}).get("tool_calls") or ())
            if prompt:
                self.prompt = tuple(map(int, prompt))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BackendUnavailable("the model server sent something that is no chat completion") from error

    def turn(self, *, exact: bool = True) -> Turn:
        """What came in all. Raises `BackendRefused` where token ids or log-probs are missing, `BackendUnavailable` where they
        do not belong together; where it need not be exact, such a turn has no tokens."""
        calls = tuple(Call(name, arguments) for _, (name, arguments) in sorted(self.calls.items()))
        if not exact and (self.prompt is None or len(self.tokens) != len(self.logprobs)):
            return Turn((), (), (), self.finish == "length", calls)
        if self.prompt is None or not self.tokens:
            raise BackendRefused(
                "the model server gives no token ids with chat completions (return_token_ids): a vLLM server does"
            )
        if len(self.tokens) != len(self.logprobs):
            raise BackendUnavailable(f"the model server sent {len(self.tokens)} tokens and {len(self.logprobs)} log-probs")
        return Turn(self.prompt, tuple(self.tokens), tuple(self.logprobs), self.finish == "length", calls)

    def _add_calls(self, calls: Sequence[Mapping[str, Any]]) -> None:
        for number, call in enumerate(calls):
            known = self.calls.setdefault(int(call.get("index", number)), ["", ""])
            function = call.get("function") or {}
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""


def error_body(message: str) -> bytes:
    """An error as OpenAI's API writes it."""
    return json.dumps({"error": {"message": message, "type": "proxy_error"}}).encode()
