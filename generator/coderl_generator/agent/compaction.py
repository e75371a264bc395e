"""Keeping a long conversation within the model's context: older turns become one message with what they came to.

The system message, what persons said, the plan and the last turns stay as they are. What went before becomes: the files changed
(counted by us, not remembered by a model), and the model's own summary. The turns that were replaced stay in the record.
Modes: `auto`; `error` = the run ends where it would be needed; `off` = nothing, and a full context is the endpoint's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from coderl_generator.errors import ContextFull, GeneratorError

from .chat import Message, Reply, estimated_tokens
from .conversation import Conversation, Entry, Origin
from .toolbox import capped

_SHARE: Final = 0.75
"""Of the context, above which older turns are replaced: room for a reply and an observation."""
_KEEP_TURNS: Final = 3
_MOST_QUOTED_CHARS: Final = 1_500
"""Of one message in the request for a summary."""
_REQUEST = (
    "Summarise this part of a coding agent's work for the agent itself, which will not see it again: what was found out "
    "(with file:line), what was changed, what failed and why, what is open. At most 200 words. No tool calls."
)
_HEAD = "Older turns were replaced by this summary; the whole is in the record of the run."


class Mode(StrEnum):
    """What to do where a conversation gets long."""

    OFF = "off"
    AUTO = "auto"
    ERROR = "error"


@dataclass(slots=True)
class Compactor:
    """Decides when, and does it."""

    mode: Mode = Mode.AUTO
    context_tokens: int = 32_768
    count: int = 0
    """How often it was done in this run."""
    _ratio: float = field(default=1.0)
    """Tokens that an endpoint counted per token that was estimated."""

    def measured(self, counted: int | None, estimated: int) -> None:
        """Learn from an endpoint how good the estimate is."""
        if counted and estimated:
            self._ratio = counted / estimated

    def compact(
        self, conversation: Conversation, ask: Callable[[list[Message], str], Reply], changed: Sequence[str], beside_tokens: int
    ) -> None:
        """Replace older turns where the conversation is too long; `beside_tokens`: what is told of the tools. Raises
        `ContextFull` (mode `error`, or nothing left to drop), and what the model raises."""
        most = int(self.context_tokens * _SHARE)
        size = int((estimated_tokens(conversation.messages) + beside_tokens) * self._ratio)
        if self.mode is Mode.OFF or size <= most:
            return
        full = f"the conversation has about {size} tokens, more than {most} of the context of {self.context_tokens}"
        if self.mode is Mode.ERROR:
            raise ContextFull(f"{full}; with --compaction auto older turns would be summarised")
        gone = _older(conversation.entries)
        if not gone:
            raise ContextFull(f"{full}, and its last turns alone fill it")
        conversation.replace(gone, Origin.SUMMARY, {"role": "user", "content": self._summary(gone, ask, changed)})
        self.count += 1

    def _summary(self, gone: Sequence[Entry], ask: Callable[[list[Message], str], Reply], changed: Sequence[str]) -> str:
        request: list[Message] = [
            {"role": "system", "content": _REQUEST},
            {"role": "user", "content": self._fitting("\n\n".join(_quoted(one) for one in gone))},
        ]
        try:
            said = ask(request, "summary").text.strip()
        except GeneratorError as error:
            said = f"(The model gave no summary: {error})"
        files = f"Files changed so far: {', '.join(changed)}.\n" if changed else ""
        return f"{_HEAD}\n{files}{capped(said, 4_000) or '(The model gave no summary.)'}"

    def _fitting(self, text: str) -> str:
        """What fits into half of the context."""
        return capped(text, max(400, int(self.context_tokens * 1.5)))


def _older(entries: Sequence[Entry]) -> list[Entry]:
    """What may be replaced: no system message, nothing that a person said, not the last turns. A turn is a reply of the model
    and what followed it; it is never cut in two, since a call and its result belong together."""
    starts = [at for at, one in enumerate(entries) if one.origin is Origin.MODEL]
    for keep in range(_KEEP_TURNS, 0, -1):
        if len(starts) > keep:
            return [one for one in entries[: starts[-keep]] if one.origin not in (Origin.SYSTEM, Origin.USER)]
    return []


def _quoted(entry: Entry) -> str:
    message = entry.message
    calls = "".join(f"\n{one['function']['name']} {one['function']['arguments']}" for one in message.get("tool_calls", ()))
    said = str(message.get("content") or "")
    return f"{entry.origin}: {capped(said + calls, _MOST_QUOTED_CHARS)}"
