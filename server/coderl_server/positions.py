"""Positions: the units clients count them in, and how they move when text is edited.

Inside the house a position is (line, character), both zero-based, `character` counting Unicode code points. On the wire it
counts code units of the negotiated `positionEncoding` (LSP 3.17, "Position Encodings"). Editors really use all three:
VS Code utf-16, Neovim 0.12 and Helix utf-8, eglot utf-32.

Covered: astral characters, lone surrogates, positions inside a character or past the end of the line, the three line
terminators of LSP (`\\n`, `\\r\\n`, `\\r`). Not covered: grapheme clusters (LSP does not know them), and an edit that joins a
`\\r` and a `\\n` which stood on two lines (`Edit.new_end` is then one line too low; no editor is known to send that).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum


class Encoding(StrEnum):
    """LSP `PositionEncodingKind`."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# Where str.splitlines sees a border and LSP does not: then the slower pattern above has to do it.
_FOREIGN_BORDER = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")


def to_units(line: str, character: int, encoding: Encoding) -> int:
    """Code points → code units, counted from the start of `line`; clamped to [0, end of `line`]."""
    character = min(max(character, 0), len(line))
    if encoding is Encoding.UTF32 or line.isascii():
        return character
    if encoding is Encoding.UTF8:
        return len(line[:character].encode("utf-8", "surrogatepass"))
    return len(line[:character].encode("utf-16-le", "surrogatepass")) // 2


def to_points(line: str, units: int, encoding: Encoding) -> int:
    """Code units → code points. A position inside a character snaps to its start, one past the end to the end."""
    if units <= 0:
        return 0
    if encoding is Encoding.UTF32 or line.isascii():
        return min(units, len(line))
    if encoding is Encoding.UTF8:
        raw = line.encode("utf-8", "surrogatepass")
        cut = min(units, len(raw))
        while cut < len(raw) and raw[cut] & 0xC0 == 0x80:
            cut -= 1
        return len(raw[:cut].decode("utf-8", "surrogatepass"))
    return _utf16_to_points(line, units)


def _utf16_to_points(line: str, units: int) -> int:
    # Each astral character before the position took two units; only they are visited, so a huge line stays cheap.
    for before, astral in enumerate(_ASTRAL.finditer(line)):
        start_units = astral.start() + before
        if units <= start_units:
            return units - before
        if units == start_units + 1:
            return astral.start()
    return min(units - len(_ASTRAL.findall(line)), len(line))


def split_lines(text: str) -> list[str]:
    """Split after the line terminators of LSP, keeping them; no empty piece after a final terminator.

    `\\v`, `\\f`, U+0085, U+2028 and their like end no line in LSP, although `str.splitlines` thinks so.
    """
    if _FOREIGN_BORDER.search(text):
        return _LINE.findall(text)
    return text.splitlines(keepends=True)


def advance(line: int, character: int, text: str) -> tuple[int, int]:
    """The position after `text` has been written at (line, character); code points."""
    if "\n" not in text and "\r" not in text:
        return line, character + len(text)
    pieces = split_lines(text)
    if pieces[-1].endswith(("\n", "\r")):
        return line + len(pieces), 0
    return line + len(pieces) - 1, len(pieces[-1])


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a document: `old_text` between start and end became `new_text`. Code points; start ≤ end."""

    start_line: int
    start_char: int
    end_line: int
    end_char: int
    new_text: str
    old_text: str
    compared: bool = field(default=False, compare=False)
    """Found by comparing two whole texts: where equal text stands around it, it may lie elsewhere there."""

    @property
    def start(self) -> tuple[int, int]:
        """(line, character) where the edit begins, before and after."""
        return self.start_line, self.start_char

    @property
    def end(self) -> tuple[int, int]:
        """(line, character) of the end of `old_text`, before the edit."""
        return self.end_line, self.end_char

    @property
    def new_end(self) -> tuple[int, int]:
        """(line, character) of the end of `new_text`, after the edit."""
        return advance(self.start_line, self.start_char, self.new_text)

    def move(self, position: tuple[int, int], *, stay_on_insert: bool = False) -> tuple[int, int]:
        """Where a position of the text before the edit lies after it.

        A position inside the replaced text goes to the end of the new text. One exactly where something is inserted is
        pushed along, unless `stay_on_insert` (the end of a tracked range must not swallow what is typed behind it).
        """
        if position < self.start or (stay_on_insert and position == self.start):
            return position
        line, character = self.new_end
        if position <= self.end:
            return line, character
        if position[0] == self.end_line:
            return line, character + position[1] - self.end_char
        return position[0] + line - self.end_line, position[1]

    def minimal(self) -> Edit:
        """The same change without what `old_text` and `new_text` share at their beginning and then at their end.

        Editors say the same accept in different ways (replace the typed token, or insert only the rest); this is the
        form in which they agree.
        """
        old, new = self.old_text, self.new_text
        if not old or not new:
            return self
        head = _shared_head(old, new)
        tail = _shared_head(old[head:][::-1], new[head:][::-1])
        # A \r\n is one thing: never cut between its halves.
        if head and old[head - 1] == "\r":
            head -= 1
        if tail and old[len(old) - tail] == "\n" and ("\r" in (old[-tail - 1 : -tail], new[-tail - 1 : -tail])):
            tail -= 1
        if not head and not tail:
            return self
        start = advance(self.start_line, self.start_char, old[:head])
        end = advance(self.start_line, self.start_char, old[: len(old) - tail])
        return Edit(
            *start, *end, new_text=new[head : len(new) - tail], old_text=old[head : len(old) - tail], compared=self.compared
        )


def _shared_head(a: str, b: str) -> int:
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    return next(i for i in range(limit) if a[i] != b[i])
