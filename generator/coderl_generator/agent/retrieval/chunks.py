"""A file as chunks of lines, cut where something new begins. Pure.

Lines end at a line feed and nowhere else, as they do for Git and grep; a carriage return belongs to its line.
Together the chunks are the whole file, each line in one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEAST_LINES: Final = 12
MOST_LINES: Final = 40
"""About a screen: a function of ordinary size fits."""
MOST_LINE_CHARS: Final = 400
"""More of a line (minified code, data) is neither searched nor shown."""
_CLOSERS: Final = (")", "]", "}", "end", "else", "elif", "except", "finally")
"""A line that begins so goes on with what stands above it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `start` to `end`, both included, counted from 1."""

    start: int
    end: int
    text: str
    """Bytes that are no UTF-8 replaced, long lines cut (an ellipsis stands there)."""
    digest: str
    """`digest_of` the lines as they are in the file."""


def split(data: bytes) -> list[Chunk]:
    """The chunks of a file, in order; none of an empty one."""
    lines = lines_of(data)
    chunks = []
    start = 0
    while start < len(lines):
        end = _cut(lines, start)
        text = "\n".join(_shown(line) for line in lines[start:end])
        chunks.append(Chunk(start + 1, end, text, digest_of(lines[start:end])))
        start = end
    return chunks


def lines_of(data: bytes) -> list[bytes]:
    """Without line feeds; what follows the last one is a line only where it is not empty."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def digest_of(lines: Sequence[bytes]) -> str:
    """SHA-256 of lines of a file, line feeds between them."""
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _cut(lines: Sequence[bytes], start: int) -> int:
    """Where the chunk that begins at an index ends: before the outermost beginning, the last of them where several are."""
    if len(lines) - start <= MOST_LINES:
        return len(lines)
    return min(range(start + LEAST_LINES, start + MOST_LINES + 1), key=lambda place: (_depth(lines, place), -place))


def _depth(lines: Sequence[bytes], place: int) -> float:
    """How deep inside something a cut before a line would be."""
    line = lines[place][:MOST_LINE_CHARS].decode("utf-8", "replace").expandtabs(4)
    begun = line.strip()
    if not begun:
        return float("inf")
    indent = len(line) - len(line.lstrip())
    goes_on = begun.startswith(_CLOSERS)
    after_blank = not lines[place - 1].strip()
    return indent + 4 * goes_on + 2 * (not after_blank)


def _shown(line: bytes) -> str:
    text = line[: 4 * MOST_LINE_CHARS].decode("utf-8", "replace").removesuffix("\r")
    return text if len(text) <= MOST_LINE_CHARS else text[:MOST_LINE_CHARS] + "…"
