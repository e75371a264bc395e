"""What the model is shown, every message of it on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .chat import Message
from .trajectory import Recorder, Trajectory


class Origin(StrEnum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    """A person: the task, and what was said later in an interactive run."""
    MODEL = "model"
    TOOL = "tool"
    LOOP = "loop"
    """A correction, a word about the plan."""
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message and its number in the record."""

    index: int
    origin: Origin
    message: Message


@dataclass(slots=True)
class Conversation:
    """The messages as they stand now."""

    recorder: Recorder
    entries: list[Entry] = field(default_factory=list)
    _next: int = 0

    @property
    def messages(self) -> list[Message]:
        """For the model."""
        return [one.message for one in self.entries]

    def add(self, origin: Origin, message: Message) -> Entry:
        """Put a message behind the others."""
        entry = self._recorded(origin, message)
        self.entries.append(entry)
        return entry

    def replace(self, gone: Sequence[Entry], origin: Origin, message: Message) -> None:
        """Put one message where the first of some others stood, which leave the conversation and stay on record."""
        indexes = {one.index for one in gone}
        place = next(at for at, one in enumerate(self.entries) if one.index in indexes)
        entry = self._recorded(origin, message, replaces=sorted(indexes))
        self.entries = [one for one in self.entries if one.index not in indexes]
        self.entries.insert(place, entry)

    def resume(self, trajectory: Trajectory) -> None:
        """The messages as they stood at the end of a record."""
        for line in trajectory.of("message"):
            self.entries = with_line(self.entries, line)
            self._next = line["index"] + 1

    def _recorded(self, origin: Origin, message: Message, replaces: Iterable[int] = ()) -> Entry:
        entry = Entry(self._next, origin, message)
        self._next += 1
        extra: dict[str, Any] = {"replaces": list(replaces)} if replaces else {}
        self.recorder.write("message", index=entry.index, origin=str(origin), message=message, **extra)
        return entry


def with_line(entries: Sequence[Entry], line: dict[str, Any]) -> list[Entry]:
    """The messages after one line of a record."""
    entry = Entry(line["index"], Origin(line["origin"]), line["message"])
    gone = set(line.get("replaces", ()))
    places = [at for at, one in enumerate(entries) if one.index in gone]
    kept = [one for one in entries if one.index not in gone]
    kept.insert(places[0] if places else len(kept), entry)
    return kept
