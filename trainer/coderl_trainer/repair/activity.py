"""What an agent did, as its model's tool calls tell it: files read, commands run. Pure.

Covered: native tool calls that went through the proxy; the names of the tools of `simplecoder` and of those most others use.
Not covered: calls that an agent reads out of plain text, and what a command does (a `cat` is a command, no file read).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .chat_wire import Turn

_READS: Final = frozenset({"read_file", "read", "open_file", "view", "cat"})
_COMMANDS: Final = frozenset({"shell", "bash", "run_tests", "run_command", "execute", "terminal"})
_PATHS: Final = ("path", "file", "file_path", "filename")


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts of one run."""

    turns: int = 0
    calls: int = 0
    files_read: int = 0
    """Different files."""
    commands_run: int = 0
    tokens: int = 0
    """That the model wrote; 0 where the server does not tell."""


def activity_of(turns: Sequence[Turn]) -> Activity:
    """Of the turns of one run."""
    calls = [call for turn in turns for call in turn.calls]
    read = {_path(call.arguments) for call in calls if call.name in _READS}
    return Activity(
        turns=len(turns),
        calls=len(calls),
        files_read=len(read),
        commands_run=sum(call.name in _COMMANDS for call in calls),
        tokens=sum(len(turn.tokens) for turn in turns),
    )


def _path(arguments: str) -> str:
    try:
        given = json.loads(arguments)
        return next((str(given[name]) for name in _PATHS if name in given), arguments)
    except (ValueError, TypeError):
        return arguments
