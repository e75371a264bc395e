"""The record of a run: one JSON object per line, written as things happen, read again to resume, replay, show and export.

Kinds of lines, in format 1 (`at_s`: seconds since the run, or its resumption, began):

- `start`: format, task, workspace, config, native_tools, version; again with `resumed` true where a run is taken up
- `message`: index, origin, message (as it was sent), replaces: indexes of messages that it stands for from here on
- `reply`: purpose (`act`, `plan`, `summary`; of the last two the request too), finish, reasoning, tokens, ids and log-probs,
  seconds; before its message
- `begun`: a call that is about to act; where the run is killed here, nobody knows whether it did
- `call`: id, tool, arguments, outcome, observation, diff, before (files as they were), seconds
- `plan`: plan, because
- `notice`: what happened beside (the server takes no tools …)
- `end`: status, detail, answer, citations, spent, cost, diff

A line that a kill cut short is dropped when the file is read; a damaged line anywhere else is an error. Everything that was
ever sent stays here, what compaction dropped included. Not covered: secrets in what the model or a program said; the file is
made for its owner only (mode 0600).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.errors import BadTrajectory

FORMAT = 1


class Recorder:
    """Appends to the record of one run. The file is locked: two processes never write one run."""

    def __init__(self, path: Path, now_s: Callable[[], float]) -> None:
        """`now_s`: a clock of which only differences count. Raises `BadTrajectory` where the file cannot be written."""
        self.path = path
        self._now_s = now_s
        self._start_s = now_s()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadTrajectory(f"the trajectory {path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(handle, "ab")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BadTrajectory(f"another process is writing {path}") from error
        _drop_torn_line(handle)

    def write(self, kind: str, **fields: Any) -> None:
        """One line, handed to the system before this returns."""
        line = {"kind": kind, "at_s": round(self._now_s() - self._start_s, 3), **fields}
        self._file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _drop_torn_line(handle: int) -> None:
    size = os.fstat(handle).st_size
    data = os.pread(handle, size, 0)
    if data and not data.endswith(b"\n"):
        os.ftruncate(handle, data.rfind(b"\n") + 1)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A record that was read."""

    path: Path
    lines: tuple[dict[str, Any], ...]

    @property
    def start(self) -> dict[str, Any]:
        """The first line."""
        return self.lines[0]

    @property
    def end(self) -> dict[str, Any] | None:
        """How the run ended; None where it was killed, or goes on."""
        last = self.lines[-1]
        return last if last["kind"] == "end" else None

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The lines of these kinds, in order."""
        return (line for line in self.lines if line["kind"] in kinds)

    @property
    def native_tools(self) -> bool:
        """Whether calls were the endpoint's own at the end, and not written by the text protocol."""
        return bool([line["native_tools"] for line in self.of("start", "notice") if "native_tools" in line][-1])

    def dropped(self) -> list[dict[str, Any]]:
        """The lines of messages that compaction took out of the conversation."""
        gone = {index for line in self.of("message") for index in line.get("replaces", ())}
        return [line for line in self.of("message") if line["index"] in gone]


def read_trajectory(path: Path) -> Trajectory:
    """Raises `BadTrajectory` where there is none, it is damaged, or of another format."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadTrajectory(f"the trajectory {path} cannot be read: {error.strerror}") from error
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            parsed = json.loads(line)
            if not isinstance(parsed["kind"], str):
                raise TypeError("kind")
        except (ValueError, KeyError, TypeError) as error:
            raise BadTrajectory(f"line {number} of {path} is damaged") from error
        lines.append(parsed)
    if not lines or lines[0]["kind"] != "start":
        raise BadTrajectory(f"{path} is no trajectory: its first line says nothing of a start")
    if lines[0].get("format") != FORMAT:
        raise BadTrajectory(f"{path} has format {lines[0].get('format')}; this version reads format {FORMAT}")
    return Trajectory(path, tuple(lines))


def bytes_to_json(data: bytes | None) -> Any:
    """File contents for a record: None, a text, or `{"base64": …}`."""
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def bytes_of_json(value: Any) -> bytes | None:
    """The other way."""
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else str(value).encode("utf-8")
