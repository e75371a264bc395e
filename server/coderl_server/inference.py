"""Reading an outcome out of plain document changes: one suggestion against one batch of edits.

LSP 3.18 has no event for shown, partly accepted or dismissed, and most clients report at best the accept. What the text
does at the place of the suggestion says most of the rest. The ideas come from Continue's GhostTextAcceptanceTracker (the
text at the anchor decides, not the command), Zed's `interpolate` (a suggestion lives on while edits agree with it) and
Copilot's typing-as-suggested.

Covered: replace-the-token and insert-the-rest spellings of one accept, insertions that a client's own diff has shifted
along equal text, CRLF, re-indented accepts, one auto-closed bracket, a tail that already stands behind the cursor, words
and lines taken one by one (a sign between two of them too), several keys in one batch, identical text typed at several
cursors (never read as an accept).
Not covered (wrong readings to expect): pasting exactly the suggested text looks like an accept; a client that sends the
whole text after a delay makes fast typing look like words taken; a formatter or snippet that rewrites the accepted text
in the same batch looks like disagreement; a piece of one character or of blanks looks typed, unless the client names it
(`Anchor.told`); a line that is begun below after the programmer left looks like one that is begun at the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from .positions import Edit

CLOSERS: Mapping[str, str] = MappingProxyType({"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`"})
"""What editors type by themselves after an opening character."""


SUFFIX_CHARS = 500
"""How much of the text behind the anchor is kept in mind."""


class Reading(StrEnum):
    """What one batch of edits did to one suggestion."""

    UNTOUCHED = "untouched"
    TYPED = "typed"
    """The next characters of the suggestion were typed; it lives on, shorter."""
    PARTIAL = "partial"
    """A first part came in one piece and ends at a word or line border; it lives on, shorter."""
    ACCEPTED = "accepted"
    """All that remained came in one piece."""
    TYPED_THROUGH = "typed_through"
    """The last remaining characters were typed, or came together with more."""
    DISAGREED = "disagreed"
    DELETED = "deleted"
    MULTI_CURSOR = "multi_cursor"
    """The same text went in at several places: what it means here cannot be told."""


_FINAL = frozenset({Reading.ACCEPTED, Reading.TYPED_THROUGH, Reading.DISAGREED, Reading.DELETED, Reading.MULTI_CURSOR})


def same_text(inserted: str, expected: str) -> bool:
    """Whether `inserted` is `expected` up to re-indentation of its later lines, trailing blanks and one auto-closed bracket."""
    if _same_lines(inserted, expected):
        return True
    closer = inserted[-1:]
    auto_closed = any(shut == closer and start in expected for start, shut in CLOSERS.items())
    return auto_closed and _same_lines(inserted[:-1], expected)


def _same_lines(a: str, b: str) -> bool:
    if a == b:
        return True
    first, *rest = a.split("\n")
    first_b, *rest_b = b.split("\n")
    if not rest or len(rest) != len(rest_b) or first.rstrip() != first_b.rstrip():
        return False
    return all(x.strip() == y.strip() for x, y in zip(rest, rest_b, strict=True))


def _at_border(text: str, cut: int) -> bool:
    """Whether a cut of `text` before `cut` lies between words, or at a line's end."""
    left, right = text[cut - 1], text[cut]
    return not ((left.isalnum() or left == "_") and (right.isalnum() or right == "_"))


@dataclass(slots=True)
class Anchor:
    """Where a suggestion stands and what of it is still to come. Mutable: `read` moves it along.

    `position` is (line, character) in code points; `suffix` is what stands behind it (as far as known).
    """

    position: tuple[int, int]
    remaining: str
    suffix: str = ""
    indented: bool = False
    """It was served where its line holds nothing but an indentation before it."""
    typed_chars: int = 0
    taken_chars: int = 0
    """Characters that came in one piece, whole or in parts."""
    taken_from: tuple[int, int] | None = None
    """Where the taken text begins; it ends at `position`. Both follow later edits."""
    last_chars: int = 0
    """Length of the last insertion at the anchor: more than one key could have been an accept."""
    unindented: bool = False
    """What was deleted was indentation of the place's line, which holds nothing else before the place."""
    settled: bool = False
    """A final reading was made; from now on only positions are followed."""
    after_piece: bool = False
    """It goes on where a piece was taken under another serving of the same idea."""
    between_chars: int = 0
    """It goes on where, behind such a piece, so many characters came in one insertion that looked typed."""
    _promised: int = 0
    """The client says that so much of it was taken, and the text is still to come."""
    _typed: tuple[tuple[int, int], int, int] | None = None
    """The last insertion where it looked typed: its place, its place in the suggestion, its length."""
    _between: bool = False
    """It came straight behind a piece that was taken: if the next one is taken too, it was a piece itself (a bare sign)."""
    _opened: str = ""
    _whole: str = ""
    _taken_at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.remaining = self.remaining.replace("\r\n", "\n")
        self.suffix = self.suffix[:SUFFIX_CHARS].replace("\r\n", "\n")
        self._whole = self.remaining

    @property
    def taken_text(self) -> str:
        """The stretch of the suggestion from `taken_from` on that is in the document, keys typed in between included."""
        start, end = self._taken_at
        return self._whole[start:end]

    @property
    def done_chars(self) -> int:
        """How much of the suggestion is in the text, typed or taken."""
        return len(self._whole) - len(self.remaining)

    def told(self, chars: int) -> None:
        """The client says that the first `chars` of the suggestion are in the text and that the last of them were accepted.

        Whether the text came before (a bite of one character, which looked typed) or is still to come.
        """
        if self.done_chars == chars:
            self.recount()
        elif self.done_chars < chars:
            self._promised = chars

    def recount(self) -> None:
        """What came last was accepted, though it looked typed."""
        if self._typed is not None:
            start, at, chars = self._typed
            self._typed = None
            self.typed_chars -= chars
            self._count(start, at, chars)

    def carry(self, old: Anchor) -> None:
        """This is what remains of `old`, served again."""
        if not old.done_chars:
            self.after_piece, self.between_chars = old.after_piece, old.between_chars
        elif old._typed is None:
            self.after_piece = old._taken_at[1] == old.done_chars
        elif old._between:
            self.between_chars = old._typed[2]

    def read(self, edits: Sequence[Edit]) -> Reading:
        """Read one batch (each edit relative to the result of the one before)."""
        result, hits, misses = Reading.UNTOUCHED, set[str](), set[str]()
        self._opened = ""
        behind: tuple[int, int] | None = None
        before = self.taken_chars, self.taken_from, self._taken_at
        for edit in edits:
            small = edit.minimal()
            if not small.new_text and not small.old_text:
                continue
            goes_on, behind = small.start == behind, small.new_end
            reading = self._step(small)
            if reading is Reading.UNTOUCHED:
                if not goes_on:  # else the same cursor has left the suggestion behind
                    misses.add(small.new_text)
                continue
            hits.add(small.new_text)
            if reading is not Reading.TYPED or result is Reading.UNTOUCHED:
                result = reading
            self.settled = result in _FINAL
        if (hits & misses) - {""}:
            self.settled = True
            self.taken_chars, self.taken_from, self._taken_at = before
            return Reading.MULTI_CURSOR
        return result

    def _step(self, edit: Edit) -> Reading:
        at = self.position
        if self.settled or edit.end < at:
            self._follow(edit)
            return Reading.UNTOUCHED
        if edit.start > at:
            return self._behind(edit)
        if edit.start == at:
            if not edit.new_text:
                return self._delete(edit)
            self.suffix = self.suffix[len(edit.old_text.replace("\r\n", "\n")) :]
            return self._insert(edit.new_text, edit)
        return self._across(edit)

    def _follow(self, edit: Edit) -> None:
        self.position = edit.move(self.position, stay_on_insert=self.settled)
        if self.taken_from is not None:
            self.taken_from = min(edit.move(self.taken_from), self.position)

    def _delete(self, edit: Edit) -> Reading:
        self._follow(edit)
        _, broken, line = self._whole[: self.done_chars].rpartition("\n")
        self.unindented = (bool(broken) or self.indented) and not (line + edit.old_text).strip()
        return Reading.DELETED

    def _behind(self, edit: Edit) -> Reading:
        """An edit behind the anchor. Where a client computes a diff it may be an insertion at the anchor, shifted along."""
        gap = self._gap(edit.start)
        if gap is None:
            return Reading.UNTOUCHED
        head = self.suffix[:gap]
        whole = head + edit.new_text.replace("\r\n", "\n")
        if not edit.old_text and whole.endswith(head):
            text = whole[: len(whole) - gap]
            broken = text.startswith("\n") and head == "\n" and edit.compared  # a line was begun here as well as below
            if broken or self.remaining.startswith(text) or same_text(text, self.remaining):
                return self._insert(text, Edit(*self.position, *self.position, new_text=text, old_text=""))
        self.suffix = whole + self.suffix[gap + len(edit.old_text.replace("\r\n", "\n")) :]
        return Reading.UNTOUCHED

    def _gap(self, position: tuple[int, int]) -> int | None:
        """How many characters of `suffix` lie before a position behind the anchor; None outside of what is known."""
        lines = self.suffix.split("\n")
        below = position[0] - self.position[0]
        if below >= len(lines):
            return None
        gap = position[1] - (0 if below else self.position[1])
        return None if gap > len(lines[below]) else gap + sum(len(line) + 1 for line in lines[:below])

    def _across(self, edit: Edit) -> Reading:
        """Text before the anchor was replaced or removed; only re-indentation can be part of an accept."""
        if not edit.new_text:
            return self._delete(edit)
        before = edit.old_text
        if edit.end > self.position:
            cut = self.position[1] - edit.start_char if edit.start_line == self.position[0] else len(before)
            before = before[:cut]
        if not before.strip() and "\n" not in before:
            return self._insert(edit.new_text.lstrip(" \t"), edit)
        self._follow(edit)
        self.last_chars = len(edit.new_text)
        return Reading.DISAGREED

    def _insert(self, text: str, edit: Edit) -> Reading:
        """`text` went in at the anchor as (part of) `edit`."""
        start, text, rest = self.position, text.replace("\r\n", "\n"), self.remaining
        if self._opened and text == CLOSERS[self._opened] and not rest.startswith(text):
            self.suffix = text + self.suffix
            return Reading.UNTOUCHED
        paired = len(text) == 2 and CLOSERS.get(text[0]) == text[1] and rest.startswith(text[0])
        if paired and text != rest:
            # One key; the editor closed the bracket, and the cursor stands between the two.
            self.suffix = text[1] + self.suffix
            text, edit = text[0], Edit(*start, *start, new_text=text[0], old_text="")
        self.last_chars, at = len(text), self.done_chars
        self.position = edit.new_end
        self._opened = text[-1:] if text[-1:] in CLOSERS else ""
        one_key = len(text) == 1 or paired or not text.strip()
        if not one_key and self._completes(text):
            return self._take(start, len(text) if rest.startswith(text) else len(rest), "", Reading.ACCEPTED)
        if text.startswith(rest):
            self._type(start, at, len(rest))
            self.remaining = ""
            return Reading.TYPED_THROUGH
        if not rest.startswith(text):
            return Reading.DISAGREED
        left = rest[len(text) :]
        if at + len(text) <= self._promised or (not one_key and _at_border(rest, len(text))):
            return self._take(start, len(text), left, Reading.PARTIAL)
        self._type(start, at, len(text))
        self.remaining = left
        if self._stands_behind(left):
            self.remaining = ""
            return Reading.TYPED_THROUGH
        return Reading.TYPED

    def _completes(self, text: str) -> bool:
        if same_text(text, self.remaining):
            return True
        return self.remaining.startswith(text) and self._stands_behind(self.remaining[len(text) :])

    def _stands_behind(self, tail: str) -> bool:
        """Whether the tail of the suggestion is on the line already (an auto-closed bracket), so that clients leave it out."""
        return "\n" not in tail and self.suffix.startswith(tail)

    def _type(self, start: tuple[int, int], at: int, chars: int) -> None:
        self.typed_chars += chars
        self._typed = start, at, chars
        self._between = self._taken_at[1] == at if at else self.after_piece
        self.after_piece, self.between_chars = False, 0

    def _take(self, start: tuple[int, int], chars: int, left: str, reading: Reading) -> Reading:
        if self._between:
            self.recount()
        self._count(start, self.done_chars, chars)
        self.taken_chars += self.between_chars  # they stand before this serving
        self.after_piece, self.between_chars, self._between = False, 0, False
        self.remaining = left
        return reading

    def _count(self, start: tuple[int, int], at: int, chars: int) -> None:
        """`chars` of the suggestion from `at` on were taken; they stand at `start`."""
        self._taken_at = (at if self.taken_from is None else self._taken_at[0], at + chars)
        self.taken_chars += chars
        self._typed = None
        self.taken_from = self.taken_from or start
