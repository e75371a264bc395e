"""Message framing of the base protocol (LSP 3.18, "Base Protocol") that survives a broken peer.

Covered: garbage between messages, missing or malformed headers, lengths that are too large (refused above `limit_bytes`), too
long or too short for what follows, bodies that are not JSON or not an object. After any of these the next well-framed message
is found again: raw CR LF CR LF cannot stand inside JSON text (control characters must be escaped, RFC 8259 §7), so a header
inside a body proves that the body's stated length was wrong.

Not covered: a peer that states a wrong length and then falls silent (there is nothing to find), encodings other than UTF-8.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

LIMIT_BYTES = 64 * 1024 * 1024
"""Largest message accepted; a document of that size is beyond every setting."""

_HEADER_LIMIT_BYTES = 8 * 1024
_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,20})[ \t]*(?=\r?\n)", re.IGNORECASE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_HEADER_BEGUN = re.compile(rb"(?:c|co|con|cont|conte|conten|content|content-[length]{0,6}[ \t:\d\r]*)\Z", re.IGNORECASE)
_EMBEDDED = re.compile(rb"content-length[ \t]*:[ \t]*\d{1,20}[ \t]*\r\n(?:[^\r\n]*\r\n)*\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that were not a message; the sentence says what was wrong (never with the bytes themselves)."""

    sentence: str


Frame = dict[str, Any] | Malformed


def encode_frame(body: bytes) -> bytes:
    """One message as it goes over the wire."""
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


class FrameParser:
    """Turns a byte stream into messages, incrementally. Memory is bounded by `limit_bytes` plus one read."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._body_length: int | None = None
        self._searched = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in; give back what they complete, in order."""
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if self._body_length is None:
            refused = self._read_header()
            if refused is not None or self._body_length is None:
                return refused
        length = self._body_length
        # Only the part that claims to be this body: a header behind it belongs to the next message. What was searched on the
        # last read is not searched again, but for the length of one header.
        embedded = _EMBEDDED.search(self._buffer, max(0, self._searched - _HEADER_LIMIT_BYTES), length + _HEADER_LIMIT_BYTES)
        if embedded is not None and embedded.start() < length:
            self._drop(embedded.start())
            return Malformed("A message was shorter than its header said.")
        if len(self._buffer) < length:
            self._searched = len(self._buffer)
            return None
        body = bytes(self._buffer[:length])
        frame = _parse(body)
        # What was no message may have eaten the beginning of the next header.
        tail = _HEADER_BEGUN.search(body) if isinstance(frame, Malformed) else None
        self._drop(length if tail is None else tail.start())
        return frame

    def _read_header(self) -> Malformed | None:
        """Look for the next header; sets `_body_length` where one is complete."""
        match = _LENGTH.search(self._buffer)
        if match is None:
            # Keep what may be the beginning of a header.
            if len(self._buffer) > _HEADER_LIMIT_BYTES:
                self._drop(len(self._buffer) - _HEADER_LIMIT_BYTES // 2)
                return Malformed("Bytes without a header were skipped.")
            return None
        end = _HEADER_END.search(self._buffer, match.end())
        if end is None:
            if len(self._buffer) - match.end() > _HEADER_LIMIT_BYTES:
                self._drop(match.end())
                return Malformed("A header without an end was skipped.")
            return None
        # A header cut off in the middle is followed by the next one: the last length before the blank line counts.
        length = int(_LENGTH.findall(self._buffer, match.start(), end.start() + 2)[-1])
        self._drop(end.end())
        if length > self._limit_bytes:
            return Malformed(f"A message of {length} bytes is over the limit of {self._limit_bytes}.")
        self._body_length = length
        return None

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._body_length = None
        self._searched = 0


def _parse(body: bytes) -> Frame:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return Malformed("A message was not JSON.")
    if not isinstance(message, dict):
        return Malformed("A message was not a JSON object.")
    return message
