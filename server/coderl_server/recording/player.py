"""`coderl replay --lsp`: plays a recorded session into a fresh server and compares what it decides.

The client's messages are sent in the recorded order at the recorded (virtual) times; before one is sent, every answer that the
editor had by then must have come. The log goes to a temporary home folder. Decisions are compared as their canonical lines,
byte for byte: reasons, probabilities, thresholds, coins, propensities, ids and times.

Promised with the scripted backend, the same seed, and the gate the session was recorded with. Not promised: other backends
(their numbers may differ between machines), messages marked as not settled, anything the server learned before the recording
began (a gate in the recorder's home folder: name it with `--gate` in the server's command).
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import InputError, ServerFailed
from .format import ClockMoved, Event, FromClient, FromServer, Recording, read_recording
from .peer import ANSWER_LIMIT_S, ServerPeer


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first decision that came out otherwise."""

    index: int
    """Its place among the session's decisions, from 0."""
    fields: tuple[str, ...]
    """Names of the fields that differ; empty where a whole decision is missing on one side."""
    recorded: str | None
    """Canonical line; None where the recorded session had no such decision. So for `played`."""
    played: str | None

    @property
    def sentence(self) -> str:
        if self.recorded is None:
            return f"The server made decision {self.index + 1}, which the recording does not have."
        if self.played is None:
            return f"The server did not make decision {self.index + 1} of the recording."
        return f"Decision {self.index + 1} differs in {', '.join(self.fields) or 'its spelling'}."


@dataclass(frozen=True, slots=True)
class PlayReport:
    """What came of a playback."""

    file: str
    messages: int
    """Messages of the editor that were played."""
    decisions_recorded: int
    decisions_played: int
    unsettled: int
    """Messages that reached the recorded server while it was computing; there a difference may be one of speed."""
    first_divergence: Divergence | None
    answers_differing: int = 0
    """Inline-completion answers whose items are not the recorded ones; decisions hold no text, so both are compared."""

    @property
    def same(self) -> bool:
        """True where every decision came out byte for byte as recorded, and every answer too."""
        return self.first_divergence is None and self.answers_differing == 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object with stable keys."""
        divergence = self.first_divergence
        return {
            "file": self.file,
            "same": self.same,
            "messages": self.messages,
            "decisions_recorded": self.decisions_recorded,
            "decisions_played": self.decisions_played,
            "answers_differing": self.answers_differing,
            "unsettled": self.unsettled,
            "first_divergence": None
            if divergence is None
            else {
                "index": divergence.index,
                "fields": list(divergence.fields),
                "sentence": divergence.sentence,
                "recorded": divergence.recorded,
                "played": divergence.played,
            },
        }

    def render(self, console: Console) -> None:
        """Two or three lines for people."""
        counted = f"{self.messages} messages played, {self.decisions_played} decisions"
        if self.same:
            console.print(f"{counted}: all as recorded, byte for byte.", highlight=False)
            return
        console.print(f"{counted} ({self.decisions_recorded} recorded): not as recorded.", highlight=False)
        if self.first_divergence is not None:
            console.print(self.first_divergence.sentence, highlight=False)
            for name, line in (("recorded", self.first_divergence.recorded), ("played", self.first_divergence.played)):
                if line is not None:
                    console.print(f"{name:>8}: {line}", highlight=False, markup=False)
        if self.answers_differing:
            console.print(f"{self.answers_differing} answers hold other items than recorded.", highlight=False)
        if self.unsettled:
            console.print(f"{self.unsettled} messages met a computing server in the recording, where speed decides.")


def play(file: Path, server_command: list[str] | None = None) -> PlayReport:
    """Play a recording into a fresh server: the recorded command, or `server_command`.

    Raises InputError for a file that is no recording or has no decisions to compare with, ServerFailed where the server dies,
    hangs or cannot be driven.
    """
    recording = read_recording(file)
    if recording.decisions is None:
        raise InputError(f"The recording {file} broke off before its end, so there are no decisions to compare with.")
    command = server_command or list(recording.header.command)
    with tempfile.TemporaryDirectory(prefix="coderl-replay-") as home:
        environment = {name: value for name, value in os.environ.items() if name != "CODERL_DATABASE_URL"}
        player = Player(recording)
        played = asyncio.run(player.run(command, {**environment, "CODERL_HOME": home}))
    return PlayReport(
        file=str(file),
        messages=sum(1 for event in recording.events if isinstance(event, FromClient)),
        decisions_recorded=len(recording.decisions),
        decisions_played=len(played),
        unsettled=recording.unsettled,
        first_divergence=compare(recording.decisions, played),
        answers_differing=player.answers_differing,
    )


def compare(recorded: tuple[str, ...], played: list[str]) -> Divergence | None:
    """The first place where two lists of canonical lines differ, or None."""
    for index in range(max(len(recorded), len(played))):
        left = recorded[index] if index < len(recorded) else None
        right = played[index] if index < len(played) else None
        if left != right:
            return Divergence(index, _differing_fields(left, right), left, right)
    return None


def _differing_fields(left: str | None, right: str | None) -> tuple[str, ...]:
    if left is None or right is None:
        return ()
    one, other = (_fields(line) for line in (left, right))
    missing = object()
    return tuple(sorted(name for name in {*one, *other} if one.get(name, missing) != other.get(name, missing)))


def _fields(line: str) -> Mapping[str, Any]:
    content = json.loads(line)
    fields: Mapping[str, Any] = content.get("fields", content)
    return fields


class Player:
    """Plays one recording once."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._server: ServerPeer
        self._arrived = asyncio.Event()
        self._answered: dict[str, Any] = {}
        """JSON of a client's request id → the result this server answered it with (None for an error)."""
        self._completions: set[str] = set()
        """JSON of the ids of inline-completion requests."""
        self.answers_differing = 0
        self._asked_by_server: dict[str, deque[Any]] = defaultdict(deque)
        """Ids of the server's own requests by method, in order, not yet matched with recorded ones."""
        self._server_ids: dict[str, Any] = {}
        """JSON of a recorded id of a server request → the id it has in this playback."""
        self._played: list[str] | None = None

    async def run(self, command: list[str], environment: Mapping[str, str]) -> list[str]:
        """Play everything; returns the decisions' canonical lines. Raises ServerFailed."""
        self._server = await ServerPeer.start(command, environment, self._from_server, quiet=True)
        self._server.t_ms = self._recording.header.at_ms
        try:
            for event in self._recording.events:
                await self._play(event)
            if self._played is None:
                self._played = await self._decisions()
        finally:
            await self._server.close()
        return self._played

    async def _play(self, event: Event) -> None:
        match event:
            case ClockMoved(t_ms):
                await self._server.settled()
                await self._server.move_clock(t_ms)
            case FromServer(_, msg):
                await self._expect(msg)
            case FromClient(_, msg, settled):
                await self._send(msg, settled=settled)

    async def _send(self, message: Mapping[str, Any], *, settled: bool) -> None:
        if "method" not in message:
            recorded_id = json.dumps(message.get("id"))
            if recorded_id not in self._server_ids:
                return  # an answer to something this server has not asked
            message = {**message, "id": self._server_ids[recorded_id]}
        elif message["method"] == "textDocument/inlineCompletion":
            self._completions.add(json.dumps(message.get("id")))
        if settled and self._played is None:
            await self._server.settled()
        if message.get("method") == "shutdown":
            self._played = await self._decisions()
        await self._server.send(message)
        if self._played is None:
            await self._server.ask_settled()

    async def _decisions(self) -> list[str]:
        await self._server.settled()
        return await self._server.decisions()

    def _from_server(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self._answered[json.dumps(message.get("id"))] = message.get("result")
        elif "id" in message:
            self._asked_by_server[message["method"]].append(message["id"])
        self._arrived.set()

    async def _expect(self, recorded: Mapping[str, Any]) -> None:
        """Wait until this server has said what corresponds to a recorded message. Notifications of the server are not waited
        for."""
        if "method" not in recorded:
            request_id = json.dumps(recorded.get("id"))
            await self._wait(lambda: request_id in self._answered, f"answer request {request_id}")
            if request_id in self._completions:
                self.answers_differing += self._answered[request_id] != recorded.get("result")
        elif "id" in recorded:
            method = recorded["method"]
            await self._wait(lambda: bool(self._asked_by_server[method]), f"send its own request {method}")
            self._server_ids[json.dumps(recorded["id"])] = self._asked_by_server[method].popleft()

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        async def until() -> None:
            while not condition():
                if self._server.ended.is_set():
                    raise await self._server.death()
                self._arrived.clear()
                await self._either(self._arrived.wait(), self._server.ended.wait())

        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await until()
        except TimeoutError as error:
            raise ServerFailed(f"The server did not {what} as it did in the recording.") from error

    @staticmethod
    async def _either(*waits: Awaitable[Any]) -> None:
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
