"""The body of a batch → lines, with nothing ever unpacked beyond its limit. Pure: bytes in, lines out.

A batch is JSON Lines, gzip or not (RFC 1952; several members one after the other count as one). What is held is what was
unpacked so far, at most the limit; a gzip bomb is given up at the limit, not afterwards.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable

from .problems import Problem
from .settings import Limits

_GZIP = 31
"""zlib's window for gzip: 15 bits, plus 16 for gzip's head and tail."""


class Unpacker:
    """Takes the pieces of a body as they come. Raises `Problem` 400 and 413."""

    def __init__(self, *, gzip: bool, most_bytes: int) -> None:
        self._inflate = zlib.decompressobj(_GZIP) if gzip else None
        self._most_bytes = most_bytes
        self._unpacked = bytearray()
        self._fed = False

    def feed(self, piece: bytes) -> None:
        """One piece of the body."""
        if self._inflate is None:
            self._take(piece)
            return
        self._fed = self._fed or bool(piece)
        try:
            while piece:
                if self._inflate.eof:  # another member begins
                    self._inflate = zlib.decompressobj(_GZIP)
                room = self._most_bytes - len(self._unpacked) + 1
                self._take(self._inflate.decompress(piece, room))
                piece = self._inflate.unconsumed_tail or self._inflate.unused_data
        except zlib.error as error:
            raise Problem(400, "malformed", "The body is not gzip, which Content-Encoding says it is.") from error

    def end(self) -> bytes:
        """All that was unpacked. Raises `Problem` where the gzip stream is cut off."""
        if self._inflate is not None and self._fed and not self._inflate.eof:
            raise Problem(400, "malformed", "The gzip stream of the body is cut off: send the batch again.")
        return bytes(self._unpacked)

    def _take(self, data: bytes) -> None:
        if len(self._unpacked) + len(data) > self._most_bytes:
            raise Problem(413, "too_large", f"A batch unpacks to at most {self._most_bytes} bytes: send smaller ones.")
        self._unpacked += data


async def lines_of(pieces: AsyncIterable[bytes], *, gzip: bool, limits: Limits) -> list[bytes]:
    """The lines of a batch, empty ones too, without what follows the last newline if that is empty. Raises `Problem`."""
    unpacker = Unpacker(gzip=gzip, most_bytes=limits.unpacked_bytes)
    async for piece in pieces:
        unpacker.feed(piece)
    lines = unpacker.end().split(b"\n", limits.records + 1)
    if lines[-1] == b"":
        lines.pop()
    if len(lines) > limits.records:
        raise Problem(413, "too_large", f"A batch holds at most {limits.records} records: send smaller ones.")
    return lines
