"""Neovim's own protocol, MessagePack-RPC over a Unix socket: as much of it as a driver needs.

Covered: requests and their answers, one at a time; nil, booleans, integers, floats, text, lists, maps. Not covered: bytes that
are not UTF-8 (read with replacement characters), requests from Neovim, and its handles (read as None).
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

REQUEST, ANSWER = 0, 1
_FLOATS = {0xCA: ">f", 0xCB: ">d"}
_INTEGERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_TEXTS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class NeovimError(Exception):
    """Neovim answered with an error."""


def pack(value: Any) -> bytes:
    """One value in MessagePack, in the longest spelling of its kind."""
    if value is None or isinstance(value, bool):
        return bytes([0xC0 if value is None else 0xC3 if value else 0xC2])
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        data = value.encode()
        return struct.pack(">BI", 0xDB, len(data)) + data
    if isinstance(value, list | tuple):
        return struct.pack(">BI", 0xDD, len(value)) + b"".join(pack(item) for item in value)
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(pack(key) + pack(item) for key, item in value.items())
    raise TypeError(f"{type(value).__name__} has no spelling here")


class _Reader:
    """Values out of a byte string; IndexError where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def _take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise IndexError
        self.at += count
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self, count: int) -> str:
        return self._take(count).decode("utf-8", "replace")

    def _list(self, count: int) -> list[Any]:
        return [self.value() for _ in range(count)]

    def _map(self, count: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(count)}

    def value(self) -> Any:
        head = self._take(1)[0]
        if head < 0x80 or head >= 0xE0:
            return head if head < 0x80 else head - 0x100
        if head < 0xC0:
            count = head & (0x1F if head >= 0xA0 else 0x0F)
            return (self._map if head < 0x90 else self._list if head < 0xA0 else self._text)(count)
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        if (form := _FLOATS.get(head) or _INTEGERS.get(head)) is not None:
            return self._number(form)
        if head in _TEXTS:
            return self._text(self._number(_TEXTS[head]))
        if head in (0xDC, 0xDD, 0xDE, 0xDF):
            count = self._number(">H" if head in (0xDC, 0xDE) else ">I")
            return self._list(count) if head < 0xDE else self._map(count)
        self._take(1 + (self._number(_EXTENSIONS[head]) if head in _EXTENSIONS else 1 << (head - 0xD4)))
        return None


class Connection:
    """A connection to one running Neovim."""

    def __init__(self, path: Path, wait_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(wait_s)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._read = b""
        self._number = 0

    def close(self) -> None:
        self._socket.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What an API function returns. Raises NeovimError, TimeoutError, or EOFError where Neovim has ended."""
        self._number += 1
        self._socket.sendall(pack([REQUEST, self._number, method, list(arguments)]))
        while True:
            message = self._receive()
            if message[0] == ANSWER and message[1] == self._number:
                if message[2] is not None:
                    raise NeovimError(f"{method}: {message[2]}")
                return message[3]

    def _receive(self) -> list[Any]:
        while True:
            reader = _Reader(self._read)
            try:
                message = reader.value()
            except IndexError:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise EOFError("Neovim has closed the connection") from None
                self._read += data
                continue
            self._read = self._read[reader.at :]
            return list(message)
