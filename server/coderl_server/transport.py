"""Bytes in and out: stdio (pipes, sockets, terminals, redirected files) and TCP on loopback.

On stdio the process's own standard output is moved away before anything else is built, so that nothing a library prints can
break the protocol; it goes to standard error instead.

Not covered: a client that lives but does not read. Once the pipe is full, the server waits for it.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import BinaryIO

from .errors import SettingsError
from .framing import encode_frame
from .protocol import CoderlProtocol, serve_stream

READ_BYTES = 1 << 16


class FrameWriter:
    """pygls' writer interface over a file descriptor; returns when the whole frame is written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gone = False

    def write(self, body: bytes) -> None:
        """Write one frame; nothing once the client has closed its end (the end of its input follows, and ends the server)."""
        left = memoryview(encode_frame(body))
        while left and not self._gone:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # one socket for both directions: reading has set it to not block
                select.select([], [self._descriptor], [])
            except (BrokenPipeError, ConnectionResetError):
                self._gone = True

    def close(self) -> None:
        os.close(self._descriptor)


class _StreamFrameWriter:
    """The same over an asyncio stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, body: bytes) -> None:
        self._writer.write(encode_frame(body))

    def close(self) -> None:
        self._writer.close()


def take_stdio() -> tuple[BinaryIO, int]:
    """The real standard input, and the descriptor of the real output; from here on `print` goes to standard error."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    return sys.stdin.buffer, output


def _reader_of(source: BinaryIO) -> Callable[[], Awaitable[bytes]]:
    """Read a file of any kind (pipe, socket, terminal, redirected file, /dev/null) from a thread of its own.

    The event loop could watch pipes itself, but only by making them non-blocking, which on a terminal or socket that standard
    output shares would make writing fail. The thread is a daemon: a read that never returns does not hold up the exit.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)

    def pump() -> None:
        data = b"-"
        while data:
            try:
                data = os.read(source.fileno(), READ_BYTES)
            except (OSError, ValueError):  # closed under our hands: the same as its end
                data = b""
            putting = chunks.put(data)
            try:
                asyncio.run_coroutine_threadsafe(putting, loop).result()
            except (RuntimeError, CancelledError):  # the loop has ended, nobody listens any more
                putting.close()
                return

    threading.Thread(target=pump, name="coderl-stdin", daemon=True).start()
    return chunks.get


async def serve_stdio(
    protocol: CoderlProtocol,
    stdio: tuple[BinaryIO, int],
    on_malformed: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve one client over standard input and output, as `take_stdio` gave them, until it ends."""
    source, sink = stdio
    protocol.set_writer(FrameWriter(sink), include_headers=False)
    await serve_stream(protocol, _reader_of(source), on_malformed, stop)


async def serve_tcp(
    protocol: CoderlProtocol, host: str, port: int, on_malformed: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve the first client that connects to `host:port` (0 = any free port, told on standard error) until it ends.

    Raises `SettingsError` where nobody can listen there.
    """

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if protocol.writer is not None:
            writer.close()
            return
        protocol.set_writer(_StreamFrameWriter(writer), include_headers=False)
        try:
            await serve_stream(protocol, lambda: reader.read(READ_BYTES), on_malformed, stop)
        finally:
            stop.set()
            writer.close()

    try:
        server = await asyncio.start_server(connection, host, port)
    except OSError as error:
        raise SettingsError(f"--tcp cannot listen on {host}:{port} ({error.strerror}): name another address.") from error
    sys.stderr.write(f"coderl listens on {host}:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    async with server:
        await stop.wait()
