"""The deterministic double of a chat model: it says what a script says, in order, whatever it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.errors import BackendUnavailable, GeneratorError

from .calls import RawCall, ToolSpec
from .chat import Message, Reply, Sampling, estimated_tokens


@dataclass(frozen=True, slots=True)
class Line:
    """One reply."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """Names and arguments (JSON, or what a model that errs writes in its place)."""
    wait_s: float = 0.0
    """Before it, so that a test can kill a run in the middle."""
    fails: bool = False
    """The endpoint is gone."""

    @classmethod
    def of(cls, data: Mapping[str, Any] | str) -> Line:
        """From JSON: a text, or `{"text", "calls": [{"name", "arguments"}], "wait_s", "fails"}`."""
        if isinstance(data, str):
            return cls(data)
        made = tuple(
            (str(one["name"]), one["arguments"] if isinstance(one["arguments"], str) else json.dumps(one["arguments"]))
            for one in data.get("calls", ())
        )
        return cls(str(data.get("text", "")), made, float(data.get("wait_s", 0)), bool(data.get("fails", False)))


class ScriptedChat:
    """Says its lines. Calls are native, or written into the text in the text protocol's form where `native_tools` is false.

    Token ids and log-probs are made up, one per word, so that what reads them can be tested: id = the word's place in the
    reply, log-prob = −0.5.
    """

    name = "scripted"

    def __init__(self, lines: Sequence[Line], *, native_tools: bool = True, said: int = 0) -> None:
        """`said`: so many lines were said before, by the run that is resumed."""
        self.native_tools = native_tools
        self._lines = tuple(lines)
        self._at = said

    @classmethod
    def from_json(cls, path: Path, *, native_tools: bool = True, said: int = 0) -> ScriptedChat:
        """A file with a list of lines (`Line.of`). Raises `GeneratorError` naming what is wrong in it."""
        try:
            return cls(
                [Line.of(one) for one in json.loads(path.read_text(encoding="utf-8"))], native_tools=native_tools, said=said
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GeneratorError(f"the script {path} cannot be used: {error}") from error

    def reply(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        *,
        timeout_s: float,
        heard: Callable[[str], None] = lambda text: None,
    ) -> Reply:
        """See `ChatModel`. Raises `BackendUnavailable` where the script says so, and behind its end."""
        if self._at >= len(self._lines):
            raise BackendUnavailable("the script is at its end")
        line = self._lines[self._at]
        self._at += 1
        if line.wait_s:
            time.sleep(line.wait_s)
        if line.fails:
            raise BackendUnavailable("the scripted endpoint is gone")
        text = line.text
        calls: tuple[RawCall, ...] = ()
        if self.native_tools:
            calls = tuple(RawCall(f"call-{self._at}-{n}", name, made) for n, (name, made) in enumerate(line.calls))
        else:
            text += "".join(
                f'\n<tool_call>\n{{"name": "{name}", "arguments": {made}}}\n</tool_call>' for name, made in line.calls
            )
        heard(text)
        words = f"{text} {' '.join(made for _, made in line.calls)}".split() or [""]
        return Reply(
            text=text,
            calls=calls,
            finish="tool_calls" if calls else "stop",
            prompt_tokens=estimated_tokens(messages, tools if self.native_tools else ()),
            completion_tokens=len(words),
            token_ids=tuple(range(len(words))),
            logprobs=(-0.5,) * len(words),
        )

    def close(self) -> None:
        """Nothing to free."""
