"""The seam between the house and any language model: a protocol of two methods."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
    timeout_s: float = 10.0
    """Longest wait for the first token, and between two tokens."""
    document: str = ""
    """A key of the document, so that a backend may keep one cache slot per document."""


@dataclass(frozen=True, slots=True)
class Token:
    """One decoded token.

    A character that spans several tokens comes with the last of them; the earlier ones carry an empty `text`.
    """

    text: str
    id: int
    """The model's own token id; -1 where the backend does not tell it."""
    logprob: float
    """Natural-log probability under the sampling distribution, ≤ 0."""
    finish: FinishReason | None = None
    """Set on the last token only."""


@runtime_checkable
class Backend(Protocol):
    """A language model that streams tokens.

    Contract (tests/contracts holds every backend to it):
    - closing the iterator (`aclose`, or cancelling the task that iterates) stops the *decoding*, within one token;
    - log-probs always come back; a backend that cannot give them refuses to start;
    - errors are `coderl_generator.errors`, never a library's own;
    - several streams may be open at once; a backend that can only run one runs them in turn.
    """

    @property
    def generator_id(self) -> str:
        """A stable name of model and quantisation, for example `smollm2-135m-instruct-q4_1`; keys the reference quantiles."""
        ...

    def stream(self, request: GenerationRequest) -> AsyncIterator[Token]:
        """Decode; the last token carries `finish`. An empty generation yields one token with empty text."""
        ...

    async def aclose(self) -> None:
        """Stop what runs and free the model."""
        ...
