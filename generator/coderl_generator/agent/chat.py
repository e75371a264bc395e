"""The seam between the agent and a model that chats: one method. Messages have the form of OpenAI's chat completions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coderl_generator.errors import BackendUnavailable

from .calls import RawCall, ToolSpec

Message = dict[str, Any]
"""`role`, `content`, and `tool_calls` or `tool_call_id` where the endpoint has tool calls of its own."""
_CHARS_PER_TOKEN = 3.5
"""For estimates where nobody counted: code has fewer characters per token than prose."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 2048
    """Of one reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One message of the model."""

    text: str
    calls: tuple[RawCall, ...] = ()
    """Only with tool calls of the endpoint's own."""
    finish: str = "stop"
    """`stop`, `length` or `tool_calls`, as the endpoint says."""
    reasoning: str = ""
    """What a thinking model wrote apart from its text."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_ids: tuple[int, ...] = ()
    """Token ids of the rendered conversation; empty where the endpoint does not tell them."""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Natural logarithms, of the tokens as they were sampled."""

    def message(self) -> Message:
        """As it stands in the conversation."""
        if not self.calls:
            return {"role": "assistant", "content": self.text}
        made = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}} for one in self.calls
        ]
        return {"role": "assistant", "content": self.text or None, "tool_calls": made}


class ChatModel(Protocol):
    """A model that answers a conversation. For one thread."""

    name: str
    native_tools: bool
    """Whether calls come apart from the text. May turn false at the first reply, where the endpoint refuses tools."""

    def reply(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        *,
        timeout_s: float,
        heard: Callable[[str], None] = lambda text: None,
    ) -> Reply:
        """The next message; `heard` gets its text piece by piece. `timeout_s`: longest that the whole may take.

        Raises `BackendUnavailable`, `BackendRefused`, `GenerationTimedOut`, `PromptTooLong`.
        """

    def close(self) -> None:
        """Free what it holds."""


def estimated_tokens(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
    """How long a conversation is, roughly, with what is told of the tools beside it, where no endpoint counted it."""
    chars = sum(len(str(one.get("content") or "")) + len(str(one.get("tool_calls") or "")) + 16 for one in messages)
    chars += sum(len(json.dumps(one.to_json())) for one in tools)
    return int(chars / _CHARS_PER_TOKEN)


def seems_without_tools(reply: Reply, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bool:
    """Whether a prompt was so short that the server's chat template must have left the tools out, as those of models do that
    were not taught to call any. A guess: good for a word to the user, not for a decision."""
    alone = estimated_tokens(messages)
    beside = estimated_tokens((), tools)
    return reply.prompt_tokens is not None and reply.prompt_tokens < alone + 0.15 * beside


@dataclass(slots=True)
class Chunks:
    """Puts a streamed reply together from the chunks of `chat.completion.chunk`, as OpenAI, vLLM and llama.cpp send them."""

    heard: Callable[[str], None]
    finish: str = ""
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: dict[int, dict[str, str]] = field(default_factory=dict)
    _ids: list[int] = field(default_factory=list)
    _logprobs: list[float] = field(default_factory=list)
    _prompt_ids: tuple[int, ...] = ()
    _usage: dict[str, Any] = field(default_factory=dict)

    def add(self, chunk: dict[str, Any]) -> None:
        """Raises `BackendUnavailable` for what is no chunk."""
        try:
            self._add(chunk)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BackendUnavailable(f"the model server sent something that is no chat ({type(error).__name__})") from error

    def _add(self, chunk: dict[str, Any]) -> None:
        self._usage = chunk.get("usage") or self._usage
        if chunk.get("prompt_token_ids"):
            self._prompt_ids = tuple(map(int, chunk["prompt_token_ids"]))
        if not chunk.get("choices"):
            return
        choice = chunk["choices"][0]
        delta = choice.get("delta") or choice.get("message") or {}
        if text := delta.get("content"):
            self._text.append(text)
            self.heard(text)
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self._reasoning.append(thought)
        for position, part in enumerate(delta.get("tool_calls") or ()):
            call = self._calls.setdefault(int(part.get("index", position)), {"id": "", "name": "", "arguments": ""})
            function = part.get("function") or {}
            call["id"] = part.get("id") or call["id"]
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
        entries = (choice.get("logprobs") or {}).get("content") or ()
        self._logprobs += [min(0.0, float(entry["logprob"])) for entry in entries]
        if choice.get("token_ids"):  # vLLM, where it was asked for them
            self._ids += map(int, choice["token_ids"])
        else:  # llama.cpp, with every log-prob
            self._ids += [int(entry["id"]) for entry in entries if "id" in entry]
        self.finish = choice.get("finish_reason") or self.finish

    def reply(self) -> Reply:
        """What came."""
        ids, logprobs = tuple(self._ids), tuple(self._logprobs)
        if len(ids) != len(logprobs):
            ids = ids if not logprobs else ()  # half of a pair is worse than none: it would be taken for exact
        calls = [self._calls[index] for index in sorted(self._calls)]
        counted = self._usage.get("completion_tokens")
        return Reply(
            text=_sound("".join(self._text)),
            calls=tuple(
                RawCall(one["id"] or f"call-{at}", _sound(one["name"]), _sound(one["arguments"]))
                for at, one in enumerate(calls)
            ),
            finish=self.finish or "stop",
            reasoning=_sound("".join(self._reasoning)),
            prompt_tokens=self._usage.get("prompt_tokens"),
            completion_tokens=counted if counted is not None else len(logprobs) or None,
            prompt_ids=self._prompt_ids,
            token_ids=ids,
            logprobs=logprobs,
        )


def _sound(text: str) -> str:
    """Halves of a character that came in two chunks joined, and those without another half as `�`: no request can hold them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
