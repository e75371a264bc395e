"""The seam between the house and any language model: a protocol of two methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class FinishReason(StrEnum):
    """Why a generation ended."""

    END = "end"
    """The model's end-of-sequence token."""
    LENGTH = "length"
    """`max_tokens` was reached."""
    STOP = "stop"
    """One of the request's stop texts, or a stop rule of ours (`coderl_generator.extract`)."""
    DEADLINE = "deadline"
    """The time budget was used up; what came before it stands."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion to generate.

    `prompt` is the whole rendered text before the place (`coderl_generator.prompt`). `suffix` is set only where the backend
    takes the text after the place as a field of its own.
    """

    prompt: str
    suffix: str | None = None
    max_tokens: int = 48
    temperature: float = 0.0
    """0 = greedy."""
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    begins_with: str = ""
    """Text the generation has to begin with (it comes back as tokens like any other). Only for backends that force it, see
    `Backend`; the others ignore it."""
    timeout_s: float = 10.0
    """Longest wait for the first token, and between two tokens; beyond it `GenerationTimedOut` is raised."""
    deadline_s: float | None = None
    """Longest the whole stream may take. Then it ends with `FinishReason.DEADLINE`, and what came before stands."""
    document: str = ""
    """A key of the document, so that a backend may keep one cache slot per document."""
    alternatives: int = 0
    """So many of the likeliest tokens come back beside each token. Only for backends that branch, see `Backend`."""
    one_line: bool = False
    """Only the first line that is not blank is wanted, with the token that ends it: a backend may end the stream behind that
    token by itself (`FinishReason.STOP`), where hearing from the reader that it is enough would cost it another token."""
    head: tuple[int, ...] = ()
    """Ids of tokens behind the prompt that the generation goes on from; they do not come back. For backends that branch."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that might have stood where another was decoded."""

    text: str
    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One decoded token.

    A character that spans several tokens comes with the last of them; the earlier ones carry an empty `text` (or are
    not reported at all: llama.cpp's streaming leaves them out).
    """

    text: str
    id: int
    """The model's own token id; -1 where the backend does not tell it."""
    logprob: float
    """Natural-log probability, ≤ 0, under the model's own distribution: temperature 1, before top-p. It is therefore the
    probability the token was sampled with only at temperature 1 and top-p 1."""
    finish: FinishReason | None = None
    """Set on the last token only. That one is an end mark (`end_mark`): no text, id -1, log-prob 0."""
    alternatives: tuple[Alternative, ...] = ()
    """The likeliest tokens of this place, the likeliest first; none where `GenerationRequest.alternatives` is 0."""

    @property
    def is_end_mark(self) -> bool:
        """Whether this is no decoded token but the mark that ends a stream."""
        return self.finish is not None and self.id == -1 and not self.text


def end_mark(finish: FinishReason) -> Token:
    """The token that ends every stream: it carries the reason and nothing else."""
    return Token("", -1, 0.0, finish)


class Sleeper(Protocol):
    """The part of a clock this package needs. `coderl_store.clock` has two that fit; this package does not know them."""

    def now_s(self) -> float:
        """Seconds; only differences count here."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `now_s()` has advanced by `seconds`."""
        ...


class Patience:
    """How much longer one stream may wait for its next token; every backend keeps it with its own clock."""

    def __init__(self, request: GenerationRequest, now_s: float) -> None:
        self._timeout_s = request.timeout_s
        self._deadline_at_s = None if request.deadline_s is None else now_s + request.deadline_s

    def over(self, now_s: float) -> bool:
        """Whether the deadline of the whole stream has passed."""
        return self._deadline_at_s is not None and now_s >= self._deadline_at_s

    def wait_s(self, now_s: float) -> float:
        """Longest wait for the next token, seconds, ≥ 0."""
        if self._deadline_at_s is None:
            return self._timeout_s
        return max(0.0, min(self._timeout_s, self._deadline_at_s - now_s))


@runtime_checkable
class Backend(Protocol):
    """A language model that streams tokens.

    Contract (tests/contracts holds every backend to it):
    - closing the iterator (`aclose`, or cancelling the task that iterates) stops the *decoding*, within one token;
    - log-probs always come back; a backend that cannot give them refuses to start;
    - errors are `coderl_generator.errors`, never a library's own;
    - several streams may be open at once; a backend that can only run one runs them in turn.

    A backend that keeps `GenerationRequest.begins_with` has an attribute `forces_beginning` that is true; one that keeps
    `alternatives` and `head` has an attribute `branches` that is true.
    """

    @property
    def generator_id(self) -> str:
        """A stable name of model and quantisation, for example `smollm2-135m-instruct-q4_1`; keys the reference quantiles."""
        ...

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """Decode; the last token is an end mark with `finish`. An empty generation yields that token alone."""
        ...

    async def aclose(self) -> None:
        """Stop what runs and free the model."""
        ...


def line_is_complete(text: str) -> bool:
    """Whether a text holds the end of its first line that is not blank (`GenerationRequest.one_line`)."""
    return "\n" in text.lstrip()


def forces_beginning(backend: Backend) -> bool:
    """Whether a backend keeps `GenerationRequest.begins_with`; without an attribute of that name, no."""
    return bool(getattr(backend, "forces_beginning", False))


def branches(backend: Backend) -> bool:
    """Whether a backend keeps `GenerationRequest.alternatives` and `head`; without an attribute of that name, no."""
    return bool(getattr(backend, "branches", False))
