"""The file of a recorded protocol session: JSON lines, one event each.

    {"dir":"header","format":1,"coderl":"0.1.0","seed":7,"command":["coderl","lsp", …],"at_ms":1763630000000.0}
    {"dir":"clock","t_ms":1763630000012.0}                                  the server's clock was moved to t_ms
    {"dir":"client","t_ms":…,"settled":true,"msg":{…}}                      editor → server
    {"dir":"server","t_ms":…,"msg":{…}}                                     server → editor
    {"dir":"footer","decisions":["{…}", …]}                                 the session's decisions, canonical lines, in order

`t_ms` is in milliseconds since the epoch and is the server's virtual time, not when the line was written. `settled` is false
where a message reached the server while it was still computing: at such a place the generator's real speed was part of the
session, and an exact repetition is not promised. The footer is written when the editor asks for the shutdown; behind it come
only the last messages. A file without footer is a session that broke off.

The file holds the text of every document the editor opened, secret ones included: it is made readable for its owner only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..errors import InputError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """How the session was started."""

    command: tuple[str, ...]
    seed: int | None
    version: str
    at_ms: float


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """The server's clock was moved, and the server had settled before that."""

    t_ms: float


@dataclass(frozen=True, slots=True)
class FromClient:
    """A message of the editor."""

    t_ms: float
    msg: Mapping[str, Any]
    settled: bool


@dataclass(frozen=True, slots=True)
class FromServer:
    """A message of the server that the editor got."""

    t_ms: float
    msg: Mapping[str, Any]


Event = ClockMoved | FromClient | FromServer


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, read."""

    header: Header
    events: tuple[Event, ...]
    decisions: tuple[str, ...] | None
    """None where the session broke off before its decisions could be asked for."""

    @property
    def unsettled(self) -> int:
        """How many messages reached the server while it was computing."""
        return sum(1 for event in self.events if isinstance(event, FromClient) and not event.settled)


class RecordingWriter:
    """Writes a recording line by line; what was written is in the file after each `write`, so a crash costs the footer only."""

    def __init__(self, path: Path, header: Header) -> None:
        """Raises InputError where the file exists already or cannot be made."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InputError(f"The file {path} exists already: name another one, or delete it.") from error
        except OSError as error:
            raise InputError(f"The recording {path} cannot be written: {error.strerror or error}.") from error
        self._file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        self._line(
            {
                "dir": "header",
                "format": FORMAT,
                "coderl": header.version,
                "seed": header.seed,
                "command": list(header.command),
                "at_ms": header.at_ms,
            }
        )

    def write(self, event: Event) -> None:
        """Append one event."""
        match event:
            case ClockMoved(t_ms):
                self._line({"dir": "clock", "t_ms": t_ms})
            case FromClient(t_ms, msg, settled):
                self._line({"dir": "client", "t_ms": t_ms, "settled": settled, "msg": msg})
            case FromServer(t_ms, msg):
                self._line({"dir": "server", "t_ms": t_ms, "msg": msg})

    def finish(self, decisions: Sequence[str]) -> None:
        """Append the footer."""
        self._line({"dir": "footer", "decisions": list(decisions)})

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def _line(self, content: Mapping[str, Any]) -> None:
        # ASCII, so that halves of surrogate pairs, which editors do send, survive.
        self._file.write(json.dumps(content, separators=(",", ":")) + "\n")
        self._file.flush()


def read_recording(path: Path) -> Recording:
    """Read a file. Raises InputError with the line's number where it is not a recording."""
    lines = _lines(path)
    header: Header | None = None
    events: list[Event] = []
    decisions: tuple[str, ...] | None = None
    for number, line in lines:
        try:
            content = json.loads(line)
            if number == 1:
                header = _header(content, path)
            elif content["dir"] == "footer":
                decisions = tuple(str(decision) for decision in content["decisions"])
            else:
                events.append(_event(content))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"Line {number} of {path} is not part of a CodeRL recording.") from error
    if header is None:
        raise InputError(f"The file {path} is empty, not a recording.")
    return Recording(header, tuple(events), decisions)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from enumerate(file, 1)
    except OSError as error:
        raise InputError(f"The recording {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The file {path} is not text, so it is not a recording.") from error


def _header(content: Mapping[str, Any], path: Path) -> Header:
    if content["dir"] != "header" or content["format"] != FORMAT:
        raise InputError(f"The file {path} is not a recording in format {FORMAT}.")
    return Header(tuple(map(str, content["command"])), content["seed"], str(content["coderl"]), float(content["at_ms"]))


def _event(content: Mapping[str, Any]) -> Event:
    t_ms = float(content["t_ms"])
    match content["dir"]:
        case "clock":
            return ClockMoved(t_ms)
        case "client":
            return FromClient(t_ms, dict(content["msg"]), bool(content["settled"]))
        case "server":
            return FromServer(t_ms, dict(content["msg"]))
        case other:
            raise ValueError(other)
