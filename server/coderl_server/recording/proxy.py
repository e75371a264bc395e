"""`coderl record`: a proxy between a real editor and the server that writes down what passes.

The server runs on a clock that the proxy moves: before every message of the editor, and every 50 ms in between. So what the
server decides depends on the recorded events alone, and `coderl_server.recording.player` can repeat it.

Covered: any editor that talks LSP over stdio; messages pass unchanged in meaning (JSON is written anew). A message that arrives
while the server computes waits at most `SETTLE_GRACE_S` (or what the caller says); then it is passed on, so that cancelling
still works, and marked.
Not covered: exact repetition at those marks; a session killed by a signal has no footer and can be played but not compared.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from coderl_store.clock import Clock, SystemClock

from ..errors import InputError
from ..framing import FrameParser
from .format import ClockMoved, FromClient, FromServer, Header, RecordingWriter
from .peer import ServerPeer, decode_messages, encode_message

HEARTBEAT_S = 0.05
SETTLE_GRACE_S = 0.03
"""How long a message may wait for the server to settle: less than a person notices."""
_READ_BYTES = 1 << 16

Read = Callable[[], Awaitable[bytes]]


def with_client_clock(command: list[str], seed: int) -> tuple[list[str], int | None]:
    """The command with `--clock client` and `--seed`, where it is a `coderl lsp` that does not say so itself; and its seed."""
    told = list(command)
    if "lsp" in told:
        if not _has(told, "--clock"):
            told += ["--clock", "client"]
        if not _has(told, "--seed"):
            told += ["--seed", str(seed)]
    return told, _seed_in(told)


def _has(command: list[str], flag: str) -> bool:
    return any(part == flag or part.startswith(flag + "=") for part in command)


def _seed_in(command: list[str]) -> int | None:
    for part, following in zip(command, [*command[1:], ""], strict=True):
        value = following if part == "--seed" else part.removeprefix("--seed=") if part.startswith("--seed=") else ""
        if value.lstrip("-").isdigit():
            return int(value)
    return None


def record(out: Path, command: list[str], grace_s: float = SETTLE_GRACE_S) -> int:
    """Stand between the editor on standard input and output and the server `command`, and write the session to `out`.

    `grace_s`: how long a message may wait for a busy server; longer is more exact and less responsive. Returns the server's
    exit status. Raises InputError for an unusable `out`, `command` or input, ServerFailed where the server cannot be started
    or does not let itself be recorded.
    """
    if not command:
        raise InputError("Say which server to record: coderl record OUT -- coderl lsp …")
    if shutil.which(command[0]) is None:
        raise InputError(f"There is no program {command[0]}: say which server to record: coderl record OUT -- coderl lsp …")
    if sys.stdin is None or not _speaks(sys.stdin.buffer):
        raise InputError("coderl record talks to an editor over pipes; start it from the editor's settings.")
    clock = SystemClock()
    told, seed = with_client_clock(command, random.SystemRandom().getrandbits(31))
    writer = RecordingWriter(out, Header(tuple(told), seed, version("coderl"), _now_ms(clock)))
    sys.stderr.write(f"coderl records this session to {out}. The file will hold the text of every document you open.\n")
    try:
        return asyncio.run(_record_stdio(writer, told, clock, grace_s))
    finally:
        writer.close()


async def _record_stdio(writer: RecordingWriter, command: list[str], clock: Clock, grace_s: float) -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    except ValueError as error:
        raise InputError("coderl record talks to an editor over pipes; start it from the editor's settings.") from error
    client = asyncio.StreamWriter(transport, protocol, None, loop)
    proxy = Proxy(lambda: reader.read(_READ_BYTES), client.write, writer, clock, grace_s)
    try:
        return await proxy.run(command, os.environ)
    finally:
        client.close()


def _speaks(source: BinaryIO) -> bool:
    """Whether somebody may sit at the other end: a pipe, a socket or a terminal; not a file or /dev/null."""
    mode = os.fstat(source.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or source.isatty()


def _now_ms(clock: Clock) -> float:
    return round(clock.now_s() * 1000, 3)


class Proxy:
    """One recorded session between `read`/`write` (the editor) and a server process."""

    def __init__(
        self,
        read: Read,
        write: Callable[[bytes], None],
        writer: RecordingWriter,
        clock: Clock,
        grace_s: float = SETTLE_GRACE_S,
    ) -> None:
        self._grace_s = grace_s
        self._read = read
        self._write = write
        self._writer = writer
        self._clock = clock
        self._inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._server: ServerPeer
        self._shut_down = False
        self._finished = False

    async def run(self, command: list[str], environment: Mapping[str, str]) -> int:
        """Record until the editor or the server ends. Returns the server's exit status. Raises ServerFailed."""
        self._server = await ServerPeer.start(command, environment, self._from_server, quiet=False)
        self._server.t_ms = _now_ms(self._clock)
        reading = asyncio.create_task(self._read_client())
        ending = asyncio.create_task(self._server_ended())
        try:
            await self._move()
            await self._server.settled()  # a server that has just been started, or cannot be recorded, shows it here
            await self._pump()
        finally:
            reading.cancel()
            ending.cancel()
            code = await self._server.close()
        return code

    async def _read_client(self) -> None:
        parser = FrameParser()
        try:
            while data := await self._read():
                for message in decode_messages(parser, data, "editor"):
                    self._inbox.put_nowait(message)
        except ConnectionError:
            pass  # an editor that breaks off has ended too
        finally:
            self._inbox.put_nowait(None)

    async def _server_ended(self) -> None:
        await self._server.ended.wait()
        self._inbox.put_nowait(None)

    def _from_server(self, message: dict[str, Any]) -> None:
        self._writer.write(FromServer(self._server.t_ms, message))
        self._write(encode_message(message))

    async def _pump(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    message = await self._inbox.get()
            except TimeoutError:
                await self._heartbeat()
                continue
            if message is None:
                break
            await self._from_client(message)
        if not self._server.ended.is_set():
            await self._finish()

    async def _heartbeat(self) -> None:
        if not self._shut_down and await self._server.settled(0.0):
            await self._move()

    async def _move(self) -> None:
        t_ms = max(self._server.t_ms, _now_ms(self._clock))
        self._writer.write(ClockMoved(t_ms))
        await self._server.move_clock(t_ms)

    async def _from_client(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if self._shut_down:
            settled = True  # nothing but `exit` is heard any more
        else:
            settled = await self._server.settled(self._grace_s)
            if settled:
                await self._move()
                settled = await self._server.settled(self._grace_s)
        if method == "shutdown":
            await self._finish()
        self._writer.write(FromClient(self._server.t_ms, message, settled))
        await self._server.send(message)
        if not self._shut_down:
            await self._server.ask_settled()

    async def _finish(self) -> None:
        """Ask for the decisions and write the footer, once; the editor may kill us right after its shutdown."""
        if self._finished:
            return
        self._finished = self._shut_down = True
        await self._server.settled()
        self._writer.finish(await self._server.decisions())
