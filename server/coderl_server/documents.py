"""The open documents, fed from raw content changes.

pygls rewrites the whole text for every change of a batch (`pygls/workspace/text_document.py`: 200 changes on 10,000 lines
take hundreds of milliseconds on the event loop). Here a document is a list of lines that keep their terminators, so a
change costs its own lines plus moving a few pointers.

Invariant of the list: it is never empty, every line but the last ends with exactly one terminator, the last has none.

Covered: changes in protocol order, each relative to the result of the one before; ranges past the end (clamped), inverted
ranges (turned round), full-text changes, huge lines, `\\r`, lone surrogates. Not covered: files nobody opened are never
read from disk; versions are remembered, not checked (LSP promises order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coderl_store.snapshot import Syntax

from .errors import DocumentError, SettingsError
from .positions import Edit, Encoding, split_lines, to_points, to_units
from .sections import Sections

DROP_FACTOR = 4
"""Above this many times the size limit the text is not even kept."""
SHORT_LINE_CHARS = 32
"""Windows are put together from so many lines at once as would fill them if each had this length."""
BLOCK_LINES = 256
"""Offsets are remembered for every so-many-th line."""


@dataclass(frozen=True, slots=True)
class Change:
    """One LSP content change: (start line, start character, end line, end character) in client units, or None = full text."""

    range: tuple[int, int, int, int] | None
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """A frozen view of one place in one version of a document. All counts are code points.

    `line_prefix` and `line_suffix` are the parts of the line around the cursor as far as the windows reach, without the
    line terminator; `prefix` and `suffix` keep the document's own terminators.
    """

    uri: str
    language: str
    version: int | None
    line: int
    character: int
    prefix: str
    suffix: str
    line_prefix: str
    line_suffix: str
    document_chars: int
    document_lines: int
    offset_chars: int
    character_units: int
    """`character` in the units of the client that asked (the line before the window may hold any characters)."""


def behind(place: Place, text: str) -> Place:
    """The place at the end of a text that is inserted at `place`, in the document as it is then."""
    line = text.rsplit("\n", 1)[-1]
    line_prefix = line if "\n" in text else place.line_prefix + line
    return replace(
        place,
        version=None,
        line=place.line + text.count("\n"),
        character=len(line) if "\n" in text else place.character + len(line),
        prefix=place.prefix + text,
        line_prefix=line_prefix,
        document_chars=place.document_chars + len(text),
        document_lines=place.document_lines + text.count("\n"),
        offset_chars=place.offset_chars + len(text),
    )


class Document:
    """One open document. Lines and characters are zero-based code points unless a parameter says units."""

    def __init__(self, uri: str, language: str, version: int | None, text: str, max_chars: int | None = None) -> None:
        self.uri = uri
        self.language = language
        self.version = version
        self._max_chars = max_chars
        self._dropped = False
        self._lines: list[str] = [""]
        self._chars = 0
        # Offset of every `BLOCK_LINES`-th line, as far as it is known: sums start there.
        self._offsets = [0]
        self._sections: Sections | None = None
        self.changes = 0
        """How often it was changed since it was opened; unlike versions, every client has it."""
        self._reset(text)

    @property
    def chars(self) -> int:
        """Length in code points, terminators included; of a dropped document, the length it had when it was dropped."""
        return self._chars

    @property
    def line_count(self) -> int:
        """Number of lines as editors count them: one more than there are terminators."""
        return len(self._lines)

    @property
    def too_large(self) -> bool:
        """True above the size limit: such a document is not served."""
        return self._dropped or (self._max_chars is not None and self._chars > self._max_chars)

    @property
    def dropped(self) -> bool:
        """True where the text is no longer kept (`DROP_FACTOR` times the limit); a full-text change brings it back."""
        return self._dropped

    def text(self) -> str:
        """The whole text; O(document)."""
        return "".join(self._lines)

    def line(self, index: int) -> str:
        """One line without its terminator; an index outside the document gives an empty string."""
        if not 0 <= index < len(self._lines):
            return ""
        return self._lines[index][: self._width(index)]

    def text_between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        """The text between two (line, character) positions; both are clamped into the document."""
        start, end = sorted((self._clamp(*start), self._clamp(*end)))
        return self._between(start, end)

    def offset(self, line: int, character: int) -> int:
        """Code points before a position (clamped)."""
        line, character = self._clamp(line, character)
        block = line // BLOCK_LINES
        for known in range(len(self._offsets), block + 1):
            lines = self._lines[(known - 1) * BLOCK_LINES : known * BLOCK_LINES]
            self._offsets.append(self._offsets[-1] + sum(map(len, lines)))
        return self._offsets[block] + sum(map(len, self._lines[block * BLOCK_LINES : line])) + character

    def apply(self, changes: Sequence[Change], version: int | None, encoding: Encoding) -> list[Edit]:
        """Apply one didChange and say what it did, in code points and in order.

        A full-text change is reported as the smallest single edit that has its effect, so that clients without
        incremental sync give the same evidence; nothing is reported for a document whose text is dropped.
        """
        edits: list[Edit] = []
        self.changes += 1
        for change in changes:
            if change.range is None:
                edits += self._replace_all(change.text)
            elif not self._dropped:
                edits.append(self._replace(change.range, change.text, encoding))
        self.version = version
        self._drop_if_huge()
        return edits

    def syntax(self, line: int, character: int) -> Syntax | None:
        """The syntax at a position (clamped); None for a dropped document, and where no grammar of its language is known.

        The first call cuts the document into sections and parses one; later calls re-parse what was edited since.
        """
        if self._dropped:
            return None
        if self._sections is None:
            self._sections = Sections(self.language, self._lines)
        return self._sections.syntax(*self._clamp(line, character), self._lines)

    def position(self, line: int, units: int, encoding: Encoding) -> tuple[int, int]:
        """A client's position as (line, code points), clamped into the document."""
        if line < 0:
            return 0, 0
        if line >= len(self._lines):
            last = len(self._lines) - 1
            return last, len(self._lines[last])
        return line, min(to_points(self._lines[line], units, encoding), self._width(line))

    def snapshot(
        self, line: int, character_units: int, encoding: Encoding, max_prefix_chars: int, max_suffix_chars: int
    ) -> Place:
        """A frozen view around a client's position (clamped), without joining the document.

        Raises DocumentError for a dropped document: its text is not known.
        """
        if self._dropped:
            raise DocumentError(
                f"The document has more than {self._chars} characters and is not kept; close it or raise the limit."
            )
        line, character = self.position(line, character_units, encoding)
        current, width = self._lines[line], self._width(line)
        return Place(
            uri=self.uri,
            language=self.language,
            version=self.version,
            line=line,
            character=character,
            prefix=self._before(line, character, max_prefix_chars),
            suffix=self._after(line, character, max_suffix_chars),
            line_prefix=current[max(0, character - max_prefix_chars) : character],
            line_suffix=current[character : min(width, character + max_suffix_chars)],
            document_chars=self._chars,
            document_lines=len(self._lines),
            offset_chars=self.offset(line, character),
            character_units=to_units(current, character, encoding),
        )

    def _before(self, line: int, character: int, limit: int) -> str:
        parts = [self._lines[line][max(0, character - limit) : character]]
        missing = limit - len(parts[0])
        while missing > 0 and line > 0:
            first = max(0, line - missing // SHORT_LINE_CHARS - 1)
            parts.append("".join([text[-missing:] for text in self._lines[first:line]])[-missing:])
            missing, line = missing - len(parts[-1]), first
        return "".join(reversed(parts))

    def _after(self, line: int, character: int, limit: int) -> str:
        parts = [self._lines[line][character : character + limit]]
        missing = limit - len(parts[0])
        while missing > 0 and line < len(self._lines) - 1:
            last = line + missing // SHORT_LINE_CHARS + 1
            parts.append("".join([text[:missing] for text in self._lines[line + 1 : last + 1]])[:missing])
            missing, line = missing - len(parts[-1]), last
        return "".join(parts)

    def _width(self, index: int) -> int:
        text = self._lines[index]
        if text.endswith("\r\n"):
            return len(text) - 2
        return len(text) - 1 if text.endswith(("\n", "\r")) else len(text)

    def _clamp(self, line: int, character: int) -> tuple[int, int]:
        return self.position(line, character, Encoding.UTF32)

    def _between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        lines = self._lines
        if start[0] == end[0]:
            return lines[start[0]][start[1] : end[1]]
        return lines[start[0]][start[1] :] + "".join(lines[start[0] + 1 : end[0]]) + lines[end[0]][: end[1]]

    def _replace(self, where: tuple[int, int, int, int], text: str, encoding: Encoding) -> Edit:
        start, end = self.position(where[0], where[1], encoding), self.position(where[2], where[3], encoding)
        if end < start:
            start, end = end, start
        old = self._between(start, end)
        first, last = start[0], end[0]
        merged = self._lines[first][: start[1]] + text + self._lines[last][end[1] :]
        if merged.startswith("\n") and first > 0 and self._lines[first - 1].endswith("\r"):
            # The lone \r of the line above and this \n are one terminator now.
            first -= 1
            merged = self._lines[first] + merged
        if first == last and "\n" not in text and "\r" not in text:
            pieces = [merged]
        else:
            pieces = _as_lines(merged) if last == len(self._lines) - 1 else split_lines(merged)
        added = len(pieces) - (last - first + 1)
        self._splice(first, last, pieces, len(text) - len(old))
        edit = Edit(*start, *end, new_text=text, old_text=old)
        if self._sections is not None:
            self._sections.edited(edit, self._lines, added, joined=first < start[0])
        return edit

    def _splice(self, first: int, last: int, pieces: list[str], grown: int) -> None:
        block = first // BLOCK_LINES + 1
        if len(pieces) == last - first + 1 and last // BLOCK_LINES < block:
            self._offsets[block:] = [offset + grown for offset in self._offsets[block:]]
        else:
            del self._offsets[block:]
        self._lines[first : last + 1] = pieces
        self._chars += grown

    def _replace_all(self, text: str) -> list[Edit]:
        if self._dropped:
            self._reset(text)
            return []
        old, new = self._lines, _as_lines(text)
        limit = min(len(old), len(new))
        head = next((i for i in range(limit) if old[i] != new[i]), limit)
        tail = next((i for i in range(limit - head) if old[-1 - i] != new[-1 - i]), limit - head)
        old_text, new_text = "".join(old[head : len(old) - tail]), "".join(new[head : len(new) - tail])
        self._reset(text)
        if old_text == new_text:
            return []
        end_line = len(old) - tail
        end = (end_line, 0) if tail else (end_line - 1, len(old[-1]))
        return [Edit(head, 0, *end, new_text=new_text, old_text=old_text, compared=True).minimal()]

    def _reset(self, text: str) -> None:
        self._lines = _as_lines(text)
        self._chars = len(text)
        self._offsets = [0]
        self._sections = None
        self._dropped = False
        self._drop_if_huge()

    def _drop_if_huge(self) -> None:
        if self._max_chars is not None and self._chars > DROP_FACTOR * self._max_chars:
            self._dropped, self._lines, self._offsets, self._sections = True, [""], [0], None


def _as_lines(text: str) -> list[str]:
    lines = split_lines(text)
    if not lines or lines[-1].endswith(("\n", "\r")):
        lines.append("")
    return lines


class DocumentStore:
    """The documents the client has open, by URI.

    `max_chars`: documents above it are kept and followed but marked `too_large`; above `DROP_FACTOR` times that their
    text is dropped, so that an editor that opens a huge log does not fill the server's memory. Raises SettingsError if it
    is below 1.
    """

    def __init__(self, max_chars: int) -> None:
        if max_chars < 1:
            raise SettingsError(f"The document size limit must be at least 1 character, not {max_chars}.")
        self._max_chars = max_chars
        self._documents: dict[str, Document] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def open(self, uri: str, language: str, version: int | None, text: str) -> Document:
        """didOpen; opening a document twice replaces what was known of it."""
        document = self._documents[uri] = Document(uri, language, version, text, self._max_chars)
        return document

    def change(self, uri: str, changes: Sequence[Change], version: int | None, encoding: Encoding) -> list[Edit] | None:
        """didChange; None for a document that was never opened (its changes mean nothing without a text)."""
        document = self._documents.get(uri)
        return None if document is None else document.apply(changes, version, encoding)

    def close(self, uri: str) -> bool:
        """didClose; False for a document that was never opened."""
        return self._documents.pop(uri, None) is not None

    def all(self) -> tuple[Document, ...]:
        """The open documents, in the order in which they were opened."""
        return tuple(self._documents.values())

    def get(self, uri: str) -> Document | None:
        """The document, or None where the client never opened it."""
        return self._documents.get(uri)

    def text_between(self, uri: str, start: tuple[int, int], end: tuple[int, int]) -> str | None:
        """Part of a document's text; None where the document is not open, or its text was dropped."""
        document = self._documents.get(uri)
        return None if document is None or document.dropped else document.text_between(start, end)
