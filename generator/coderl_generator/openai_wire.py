"""What `/v1/completions` servers send, read. Pure: no connection, no clock.

Three shapes of log-probs are known: OpenAI's and vLLM's parallel lists (`tokens`, `token_logprobs`), llama-server's
`content` list (one object per token with `id`), and none at all.
"""

from __future__ import annotations

import json
from typing import Any

from coderl_generator.backend import FinishReason, GenerationRequest, Token
from coderl_generator.errors import BackendRefused, BackendUnavailable, GeneratorError, PromptTooLong

_MAX_MESSAGE_CHARS = 300
_MIN_LEAK_CHARS = 12
"""A line of the prompt of at least this length that stands in a message is taken for a quotation of the prompt."""


class NoLogprobs(GeneratorError):
    """The chunk has text and no log-probs."""


def event_data(line: bytes) -> str | None:
    """The data of one line of a server-sent event stream; None for blank lines, comments and other fields."""
    if not line.startswith(b"data:"):
        return None
    return line[5:].strip().decode("utf-8", "replace")


def tokens_of(chunk: dict[str, Any]) -> tuple[list[Token], FinishReason | None]:
    """The tokens of one chunk and why the stream ends, if it does.

    Raises `NoLogprobs`, and what indexing raises (KeyError, TypeError …) where the chunk has another form.
    """
    choices = chunk.get("choices") or []
    if not choices:
        return [], None  # a last chunk with the usage alone
    choice = choices[0]
    text = choice.get("text") or ""
    tokens = _tokens(text, choice.get("logprobs"))
    reason = choice.get("finish_reason")
    if reason is None:
        return tokens, None
    return tokens, FinishReason.LENGTH if reason == "length" else FinishReason.END


def _tokens(text: str, logprobs: dict[str, Any] | None) -> list[Token]:
    entries: list[tuple[str, int, float]]
    if not logprobs:
        entries = []
    elif "content" in logprobs:
        entries = [(entry["token"], int(entry.get("id", -1)), float(entry["logprob"])) for entry in logprobs["content"] or []]
    else:
        pairs = zip(logprobs.get("tokens") or [], logprobs.get("token_logprobs") or [], strict=True)
        entries = [(str(piece), -1, float(logprob)) for piece, logprob in pairs if logprob is not None]
    if not entries:
        if text:
            raise NoLogprobs("a chunk came without log-probs")
        return []
    pieces = [piece for piece, _, _ in entries]
    if "".join(pieces) != text:
        # Parts of a character, or names of tokens instead of their text: the text comes with the last token.
        pieces = [""] * (len(entries) - 1) + [text]
    return [Token(piece, number, min(0.0, logprob)) for piece, (_, number, logprob) in zip(pieces, entries, strict=True)]


def refusal_of(status: int, answer: Any, request: GenerationRequest) -> GeneratorError:
    """The error for an HTTP status and the server's answer; its message never repeats the prompt."""
    message = message_of(answer)
    shown = f": {message}" if message and not _quotes(message, request) else ""
    if 400 <= status < 500 and status != 429:
        if "context" in message.lower() and any(word in message.lower() for word in ("length", "size", "exceed")):
            return PromptTooLong(f"the prompt does not fit the model's context{shown}")
        if status in (401, 403):
            return BackendRefused(f"the model server refused the API key (HTTP {status}){shown}")
        return BackendRefused(f"the model server refused the request (HTTP {status}){shown}")
    if 300 <= status < 400:
        return BackendRefused(f"the model server redirects (HTTP {status}): give its final address")
    return BackendUnavailable(f"the model server failed (HTTP {status}){shown}")


def already_done(answer: Any) -> bool:
    """Whether vLLM refused to load an adapter because one of that label is loaded. What is behind a label does not change, and
    several editors may share a server, so that is no failure."""
    return "already been loaded" in message_of(answer)


def adapter_refusal_of(status: int, answer: Any) -> GeneratorError:
    """The error for a server that does not load or unload an adapter."""
    if status in (404, 405) and message_of(answer) in ("", "Not Found", "Method Not Allowed"):
        return BackendRefused(
            "the model server takes no adapters while it runs; "
            "vLLM does with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        )
    return refusal_of(status, answer, GenerationRequest(""))


def message_of(answer: Any) -> str:
    """The words in a server's answer, on one line and cut; empty where it has none."""
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return " ".join(str(message or "").split())[:_MAX_MESSAGE_CHARS]


def _quotes(message: str, request: GenerationRequest) -> bool:
    """Whether a message holds a line of the prompt or the suffix, as it is or escaped as JSON."""
    lines = f"{request.prompt}\n{request.suffix or ''}".splitlines()
    for line in (" ".join(line.split()) for line in lines):
        if len(line) >= _MIN_LEAK_CHARS and (line in message or json.dumps(line)[1:-1] in message):
            return True
    return len(request.prompt) >= 4 and " ".join(request.prompt.split()) in message
