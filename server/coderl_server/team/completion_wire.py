"""`/v1/completions` in words: what a request may say, and the chunks of an answer. Pure.

The form is OpenAI's for raw text, as vLLM, llama-server and Ollama speak it. Log-probs come in both known shapes at once:
OpenAI's parallel lists, and llama-server's `content`, which holds the tokens' ids too.

Not covered of OpenAI's form: several prompts or choices, `echo`, `logit_bias`, penalties (they are ignored), `usage`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from coderl_generator.backend import FinishReason, GenerationRequest, Token

DONE = b"data: [DONE]\n\n"
MOST_CHARS = 1_000_000
"""Of a prompt or suffix."""
_FINISH: Mapping[FinishReason, str] = MappingProxyType(
    {
        FinishReason.END: "stop",
        FinishReason.STOP: "stop",
        FinishReason.LENGTH: "length",
        FinishReason.DEADLINE: "length",
    }
)


class CompletionRequest(BaseModel):
    """OpenAI's request for a raw text, as far as it is kept here; other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = Field(max_length=MOST_CHARS, description="The text to continue, as the model is to read it.")
    model: str | None = Field(default=None, description="Refused (404) where another one is served; null = whichever is.")
    suffix: str | None = Field(default=None, max_length=MOST_CHARS, description="Only for backends that take it apart.")
    max_tokens: int = Field(default=16, ge=1, le=4096)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: str | list[str] | None = Field(default=None, description="Up to 16 texts that end it; they do not come back.")
    stream: bool = Field(default=False, description="Server-sent events, one per token, then `[DONE]`.")
    logprobs: int | None = Field(default=None, ge=0, le=20, description="Not null: the log-prob of each token comes back.")
    n: Literal[1] = 1
    best_of: Literal[1] | None = None
    echo: Literal[False] = False
    user: str = Field(default="", max_length=200, description="A key of the document; requests of one key share a cache.")
    deadline_s: float | None = Field(
        default=None, gt=0, le=600, description="CodeRL's own: longest the generation may take; what came before it stands."
    )

    begins_with: str = Field(
        default="",
        max_length=2000,
        description="CodeRL's own: text it has to begin with, where the model can be forced.",
    )
    one_line: bool = Field(default=False, description="CodeRL's own: only the first line that is not blank is wanted.")

    def stops(self) -> tuple[str, ...]:
        """The texts that end it; empty ones end nothing."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)[:16]


def generation_request(asked: CompletionRequest, caller_id: str, longest_s: float) -> GenerationRequest:
    """The same in the words of our backends. Documents of different callers are different ones."""
    return GenerationRequest(
        prompt=asked.prompt,
        suffix=asked.suffix,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        stop=asked.stops(),
        begins_with=asked.begins_with,
        one_line=asked.one_line,
        timeout_s=longest_s,
        deadline_s=min(longest_s, asked.deadline_s or longest_s),
        document=f"{caller_id}:{asked.user}",
    )


class Completion:
    """The chunks of one answer."""

    def __init__(self, request_id: str, created_s: int, model: str, *, logprobs: bool) -> None:
        self._head = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created_s, "model": model}
        self._logprobs = logprobs
        self._chars = 0

    def chunk(self, tokens: Sequence[Token], finish: FinishReason | None = None) -> dict[str, Any]:
        """Tokens as one choice; of the last chunk `finish` says why it ended."""
        choice = {
            "index": 0,
            "text": "".join(token.text for token in tokens),
            "logprobs": self._logprobs_of(tokens) if self._logprobs and tokens else None,
            "finish_reason": None if finish is None else _FINISH[finish],
        }
        return {**self._head, "choices": [choice]}

    def _logprobs_of(self, tokens: Sequence[Token]) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(self._chars)
            self._chars += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": None,
            "text_offset": offsets,
            "content": [{"token": token.text, "id": token.id, "logprob": token.logprob} for token in tokens],
        }


def event(data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def error_event(status: int, code: str, detail: str) -> bytes:
    """The clear end of a stream that cannot go on. `code` is a number, as vLLM has it."""
    return event({"error": {"message": detail, "type": code, "param": None, "code": status}})
