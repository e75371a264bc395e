"""Bytes in and out: stdio (pipes, sockets, terminals, redirected files) and TCP on loopback.

On stdio the process's own standard output is moved away before anything else is built, so that nothing a library prints can
break the protocol; it goes to standard error instead.

Not covered: a client that lives but does not read. Once the pipe is full, the server waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import BinaryIO

from .errors import SettingsError
from .framing import encode_frame
from .protocol import CoderlProtocol, Incoming

logger = logging.getLogger(__name__)

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


class _TransportFrameWriter:
    """The same over an asyncio transport."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    def write(self, body: bytes) -> None:
        self._transport.write(encode_frame(body))

    def close(self) -> None:
        self._transport.close()


def take_stdio() -> tuple[BinaryIO, int]:
    """The real standard input, and the descriptor of the real output; from here on `print` goes to standard error."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    return sys.stdin.buffer, output


def _read(descriptor: int) -> bytes | None:
    """What there is; empty at the end, and where the descriptor was closed under our hands or its other end is gone. None where
    there is nothing now (somebody set it to not block)."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        logger.info("The client is gone: %s", error)
        return b""


async def serve_stdio(
    protocol: CoderlProtocol,
    stdio: tuple[BinaryIO, int],
    on_malformed: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve one client over standard input and output, as `take_stdio` gave them, until it ends or `stop` is set; then it is.

    The loop itself watches pipes, sockets and terminals: a thread that reads costs half a millisecond for each message after a
    pause (docs/log.md, 2026-11-27). The descriptor stays blocking, for what is set on it holds for everybody who shares it, and
    what is readable does not block. A file, which no loop watches, is read by a thread.
    """
    source, sink = stdio
    protocol.set_writer(FrameWriter(sink), include_headers=False)
    loop, descriptor = asyncio.get_running_loop(), source.fileno()
    incoming = Incoming(protocol, on_malformed, stop)

    def readable() -> None:
        data = _read(descriptor)
        if data is not None and not incoming.feed(data):
            stop.set()

    try:
        loop.add_reader(descriptor, readable)
    except (OSError, NotImplementedError):  # epoll says EPERM, kqueue EINVAL; Windows' loop watches none
        await _serve_file(descriptor, incoming, stop)
        return
    try:
        await stop.wait()
    finally:
        loop.remove_reader(descriptor)


async def _serve_file(descriptor: int, incoming: Incoming, stop: asyncio.Event) -> None:
    """The thread is a daemon: a read that never returns does not hold up the exit."""
    loop = asyncio.get_running_loop()

    async def feed(data: bytes) -> bool:
        return incoming.feed(data)

    def pump() -> None:
        going_on = True
        while going_on:
            feeding = feed(_read(descriptor) or b"")
            try:
                going_on = asyncio.run_coroutine_threadsafe(feeding, loop).result()
            except (RuntimeError, CancelledError):  # the loop has ended, nobody listens any more
                feeding.close()
                return
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=pump, name="coderl-stdin", daemon=True).start()
    await stop.wait()


class _Connection(asyncio.Protocol):
    """One client over TCP; only the first is served."""

    def __init__(self, protocol: CoderlProtocol, incoming: Incoming, stop: asyncio.Event) -> None:
        self._protocol = protocol
        self._incoming = incoming
        self._stop = stop
        self._served = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._protocol.writer is not None:
            transport.close()
            return
        self._served = True
        self._protocol.set_writer(_TransportFrameWriter(transport), include_headers=False)

    def data_received(self, data: bytes) -> None:
        if self._served and not self._incoming.feed(data):
            self._stop.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self._served:
            if error is not None:
                logger.info("The client is gone: %s", error)
            self._stop.set()


async def serve_tcp(
    protocol: CoderlProtocol, host: str, port: int, on_malformed: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve the first client that connects to `host:port` (0 = any free port, told on standard error) until it ends.

    Raises `SettingsError` where nobody can listen there.
    """

    incoming = Incoming(protocol, on_malformed, stop)
    try:
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(protocol, incoming, stop), host, port)
    except OSError as error:
        raise SettingsError(f"--tcp cannot listen on {host}:{port} ({error.strerror}): name another address.") from error
    sys.stderr.write(f"coderl listens on {host}:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    async with server:
        await stop.wait()
        if protocol.writer is not None:
            protocol.writer.close()
