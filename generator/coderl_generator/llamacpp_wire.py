"""Requests and answers in llama.cpp's own words."""

from __future__ import annotations

from typing import Any

from coderl_generator.backend import Alternative, GenerationRequest, Token
from coderl_generator.errors import BackendRefused, BackendUnavailable, PromptTooLong


def body_of(request: GenerationRequest) -> dict[str, Any]:
    """The request in llama.cpp's own words. Its default samplers (top-k 40, min-p 0.05) are switched off."""
    body: dict[str, Any] = {
        "prompt": [request.prompt, *request.head] if request.head else request.prompt,
        "n_predict": request.max_tokens,
        "stream": True,
        "n_probs": max(1, request.alternatives),
        "cache_prompt": True,
        "return_progress": True,  # a chunk per prompt batch: the only chance to cancel while the prompt is evaluated
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 1 if request.temperature <= 0 else 0,
        "min_p": 0.0,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.begins_with:
        body["grammar"] = f"root ::= {_literal(request.begins_with)} [^\\x00]*"
    return body


def _literal(text: str) -> str:
    """A text as a literal of llama.cpp's grammar language (GBNF)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\x{ord(char):02X}" if ord(char) < 32 else char for char in escaped) + '"'


def tokens_of(choice: dict[str, Any]) -> list[Token]:
    """The tokens of one chunk. A character that spans tokens comes as one entry with the last token's id and log-prob."""
    logprobs = choice.get("logprobs")
    if not logprobs:
        return []
    entries = logprobs["content"]
    if len(entries) == 1:
        return [_token(entries[0], choice["text"])]
    return [_token(entry, entry["token"]) for entry in entries]


def _token(entry: dict[str, Any], text: str) -> Token:
    beside = entry.get("top_logprobs") or ()
    others = tuple(Alternative(other["token"], other["id"], min(0.0, other["logprob"])) for other in beside)
    return Token(text, entry["id"], min(0.0, entry["logprob"]), alternatives=others if len(others) > 1 else ())


def raise_for(error: dict[str, Any]) -> None:
    """Raise llama.cpp's error object as ours; never repeats the prompt (llama.cpp's messages do not hold it)."""
    message = str(error.get("message", "unknown error"))
    if error.get("type") == "exceed_context_size_error":
        raise PromptTooLong(
            f"the prompt has {error.get('n_prompt_tokens')} tokens, the context {error.get('n_ctx')}; send a shorter prompt"
        )
    if 400 <= int(error.get("code", 500)) < 500:
        raise BackendRefused(f"llama.cpp refused the request: {message}")
    raise BackendUnavailable(f"llama.cpp failed: {message}")
