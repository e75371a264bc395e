"""How much of an accepted text is still there some time later.

The accepted range is tracked through every edit, so equal text elsewhere does not count. Only where one edit replaces the
range and more around it (a formatter, a client that sends the whole text) is the range's text looked for in what came. Share
kept = 1 − d/max(n, m): d the Levenshtein distance between the text as accepted (n characters) and what stands in the range
now (m characters). The times are Copilot's (vscode-copilot-chat `postInsertion.ts`: 15, 30, 120, 300, 600 s); the distance
is computed with bit vectors (Myers, JACM 46(3), 1999, in Hyyrö's formulation, 2003), one machine step per character row.

Covered: typing inside the range (counts against it), in front of it and behind it (does not), edits over its borders (what
they put there belongs to the range), deletion. Not covered: text that was cut and pasted elsewhere counts as gone; only
the first `MAX_CHARS` characters are compared; what could not be measured near its time (`LATENESS`) is not measured at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .positions import Edit, advance, split_lines

AFTER_S: tuple[float, ...] = (15.0, 30.0, 120.0, 300.0, 600.0)
MAX_CHARS = 2000
LATENESS = 0.5
"""A measurement that comes later than this share of its time after the accept is left out: it would be another time's."""

Position = tuple[int, int]
TextOf = Callable[[str, Position, Position], str | None]
"""(uri, start, end) → the text there now, or None where the document is not known any more."""


@dataclass(slots=True)
class _Tracked:
    suggestion_id: str
    uri: str
    start: Position
    end: Position
    text: str
    at_s: float
    next: int = 0


class SurvivalTracker:
    """The accepted ranges of one session. Times are seconds of one clock; positions (line, code points)."""

    def __init__(self) -> None:
        self._tracked: list[_Tracked] = []

    def __len__(self) -> int:
        return len(self._tracked)

    def accepted(self, suggestion_id: str, uri: str, start: Position, end: Position, text: str, at_s: float) -> None:
        """Track a range that holds `text` now; `at_s` is when it was accepted. Empty text is not tracked."""
        if text and start <= end:
            self._tracked.append(_Tracked(suggestion_id, uri, start, end, text[:MAX_CHARS], at_s))

    def changed(self, uri: str, edits: Sequence[Edit]) -> None:
        """The document was edited; each edit is relative to the result of the one before."""
        for tracked in self._tracked:
            if tracked.uri == uri:
                for edit in edits:
                    _follow(tracked, edit.minimal())

    def closed(self, uri: str) -> None:
        """The document was closed: what happens to it now is not known, so nothing more is measured."""
        self._tracked = [tracked for tracked in self._tracked if tracked.uri != uri]

    def next_due_s(self) -> float | None:
        """When the next measurement is due; None while nothing is tracked."""
        return min((tracked.at_s + AFTER_S[tracked.next] for tracked in self._tracked), default=None)

    def due(self, at_s: float, text_of: TextOf) -> list[tuple[str, float, float]]:
        """(suggestion id, seconds after the accept, share kept) of everything due by now."""
        measured = []
        for tracked in self._tracked:
            while tracked.next < len(AFTER_S) and at_s >= tracked.at_s + AFTER_S[tracked.next]:
                after_s = AFTER_S[tracked.next]
                tracked.next += 1
                if at_s - tracked.at_s > after_s * (1.0 + LATENESS):
                    continue
                text = text_of(tracked.uri, tracked.start, tracked.end)
                if text is not None:
                    measured.append((tracked.suggestion_id, after_s, share_kept(tracked.text, text)))
        self._tracked = [tracked for tracked in self._tracked if tracked.next < len(AFTER_S)]
        return measured


def _follow(tracked: _Tracked, edit: Edit) -> None:
    start, end = tracked.start, tracked.end
    if edit.start <= start and end <= edit.end and start < end and (found := _found_again(edit, start, end)):
        tracked.start, tracked.end = found
    elif edit.end <= start:
        tracked.start, tracked.end = edit.move(start), edit.move(end)
    elif edit.start < end:
        # It reaches into the range: what it put in place of the range's border belongs to the range.
        tracked.start = min(start, edit.start)
        tracked.end = edit.new_end if edit.end >= end else edit.move(end)


def _found_again(edit: Edit, start: Position, end: Position) -> tuple[Position, Position] | None:
    """Where the text of a replaced range stands in the new text: whole, and as near to its old place as can be."""
    at = _offset(edit, start)
    text = edit.old_text[at : _offset(edit, end)]
    before, after = edit.new_text.rfind(text, 0, at + len(text)), edit.new_text.find(text, at)
    candidates = [found for found in (before, after) if found >= 0]
    if not candidates:
        return None
    nearest = min(candidates, key=lambda found: abs(found - at))
    return advance(*edit.start, edit.new_text[:nearest]), advance(*edit.start, edit.new_text[: nearest + len(text)])


def _offset(edit: Edit, position: Position) -> int:
    """How many characters of `old_text` lie before a position inside of it."""
    below = position[0] - edit.start_line
    if below == 0:
        return position[1] - edit.start_char
    return sum(map(len, split_lines(edit.old_text)[:below])) + position[1]


def share_kept(accepted: str, now: str) -> float:
    """1 − normalised character edit distance, in [0, 1]; 1 for equal texts, 0 where nothing is left."""
    a, b = accepted[:MAX_CHARS], now[:MAX_CHARS]
    longest = max(len(a), len(b))
    return 1.0 if longest == 0 else 1.0 - edit_distance(a, b) / longest


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance in characters (insert, delete, replace: 1 each). O(len(a)·len(b)/wordsize)."""
    if not a or not b:
        return max(len(a), len(b))
    where: dict[str, int] = {}
    for i, character in enumerate(a):
        where[character] = where.get(character, 0) | (1 << i)
    mask, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = mask, 0, len(a)
    for character in b:
        equal = where.get(character, 0)
        diagonal = (((equal & plus) + plus) ^ plus) | equal | minus
        rise, fall = minus | (mask & ~(diagonal | plus)), plus & diagonal
        if rise & last:
            distance += 1
        elif fall & last:
            distance -= 1
        rise = (rise << 1) | 1
        plus = ((fall << 1) | ~(diagonal | rise)) & mask
        minus = rise & diagonal & mask
    return distance
