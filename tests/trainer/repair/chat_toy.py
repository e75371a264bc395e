"""A chat over the toy model, whose tokens and texts go both ways: a conversation that goes on extends its prompt exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..toy_engine import END, NEWLINE, SIZE, toy_text, toy_weights
from ..vllm_double import VllmDouble, vllm_double

USER, TOOL = 20, 21


def toy_render(messages: Sequence[dict[str, Any]]) -> list[int]:
    """The answers of the model as they were drawn, up to `END`; what others say by the first letters."""
    tokens: list[int] = []
    for message in messages:
        text = message["content"]
        if message["role"] == "assistant":
            tokens += [*(NEWLINE if one == "\n" else ord(one) - 97 for one in text), END]
        else:
            tokens += [USER if message["role"] == "user" else TOOL, *(ord(one) % SIZE for one in text[:12])]
    return tokens


def toy_calls(text: str) -> list[dict[str, Any]]:
    """Every answer reads a file that is called as it begins."""
    arguments = json.dumps({"path": text[:1].strip()})
    return [{"id": "1", "type": "function", "function": {"name": "read_file", "arguments": arguments}}]


@contextmanager
def chat_server() -> Iterator[VllmDouble]:
    with vllm_double(toy_weights, toy_text) as double:
        double.render, double.chat_ends, double.calls_of = toy_render, (END,), toy_calls
        yield double
