"""What the programmer did with the text in the last seconds: numbers for the gate, from the edits alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coderl_store.snapshot import Activity

from .documents import Place
from .positions import Edit

WINDOW_S = 10.0
"""Added and deleted characters are counted over this."""
UNDO_WINDOW_S = 30.0
"""Edits that took back another one are counted over this (Cody keeps the programmer's own edits of 30 s in view)."""
UNDO_DEPTH = 5
"""How many edits back one may be taken back."""
_UNDO_CHARS = 400
"""Longer edits are not compared."""
_DELETED_CHARS = 2000
"""So much of what was deleted in one go is remembered."""
_MOST = 500
"""Edits remembered; more within the window are not counted."""


@dataclass(frozen=True, slots=True)
class _Done:
    at_s: float
    added: int
    deleted: int


@dataclass(frozen=True, slots=True)
class _Deletion:
    """A run of deletions that touch each other, and what stood there."""

    at_s: float
    uri: str
    position: tuple[int, int]
    text: str

    def and_then(self, at_s: float, edit: Edit) -> _Deletion | None:
        """The run with another edit: longer, moved along, or None where the edit ended it."""
        if edit.new_text.strip() or (edit.new_text and edit.old_text):
            return None
        if edit.new_text:
            return replace(self, position=edit.move(self.position))
        if edit.end == self.position:  # the key before the cursor
            return replace(self, at_s=at_s, position=edit.start, text=(edit.old_text + self.text)[:_DELETED_CHARS])
        if edit.start == self.position:  # the key behind it
            return replace(self, at_s=at_s, text=(self.text + edit.old_text)[:_DELETED_CHARS])
        return None


class EditHistory:
    """Fed with every change, in any order of documents. Times are seconds of one clock.

    Text is held of the last `UNDO_DEPTH` edits and of the last run of deletions, in memory only. Accepted suggestions are edits
    like others.
    """

    def __init__(self) -> None:
        self._done: deque[_Done] = deque()
        self._added = self._deleted = self._deletions = 0
        self._undone_s: deque[float] = deque(maxlen=_MOST)
        self._texts: deque[tuple[str, Edit]] = deque(maxlen=UNDO_DEPTH)
        self._last: tuple[str, int] | None = None
        self._deletion: _Deletion | None = None

    def edited(self, at_s: float, uri: str, edits: Sequence[Edit]) -> None:
        """A document was changed."""
        for edit in edits:
            self._count(_Done(at_s, len(edit.new_text), len(edit.old_text)))
            if any(known == uri and _takes_back(edit, before) for known, before in self._texts):
                self._undone_s.append(at_s)
            if len(edit.new_text) <= _UNDO_CHARS and len(edit.old_text) <= _UNDO_CHARS:
                self._texts.append((uri, edit))
            self._last = (uri, edit.new_end[0])
            self._delete(at_s, uri, edit.minimal())

    def deleted_at(self, now_s: float, place: Place) -> str:
        """What was deleted at a place in the last seconds, if nothing but blanks was typed since; empty if nothing was."""
        last = self._deletion
        if last is None or last.uri != place.uri or last.position[0] != place.line or now_s - last.at_s > UNDO_WINDOW_S:
            return ""
        low, high = sorted((last.position[1], place.character))
        line = place.line_prefix + place.line_suffix
        between = line[len(place.line_prefix) - place.character + low : len(place.line_prefix) - place.character + high]
        return "" if between.strip() else last.text

    def _delete(self, at_s: float, uri: str, edit: Edit) -> None:
        last = self._deletion
        known = None if last is None or last.uri != uri else last.and_then(at_s, edit)
        if known is None and edit.old_text.strip() and not edit.new_text.strip():
            known = _Deletion(at_s, uri, edit.new_end, edit.old_text[:_DELETED_CHARS])
        if known is not None or (last is not None and last.uri == uri):
            self._deletion = known

    def activity(self, now_s: float, uri: str, line: int, spread_ms: float | None) -> Activity:
        """What is known at a place; `spread_ms` comes from the typing rhythm."""
        while self._done and now_s - self._done[0].at_s > WINDOW_S:
            self._forget()
        while self._undone_s and now_s - self._undone_s[0] > UNDO_WINDOW_S:
            self._undone_s.popleft()
        away = None if self._last is None or self._last[0] != uri else abs(line - self._last[1])
        return Activity(
            spread_ms=spread_ms,
            added_chars=self._added,
            deleted_chars=self._deleted,
            deletions=self._deletions,
            undone=len(self._undone_s),
            lines_away=away,
        )

    def _count(self, done: _Done) -> None:
        self._done.append(done)
        self._added += done.added
        self._deleted += done.deleted
        self._deletions += done.added == 0 and done.deleted > 0
        if len(self._done) > _MOST:
            self._forget()

    def _forget(self) -> None:
        done = self._done.popleft()
        self._added -= done.added
        self._deleted -= done.deleted
        self._deletions -= done.added == 0 and done.deleted > 0


def _takes_back(edit: Edit, before: Edit) -> bool:
    return edit.start == before.start and edit.old_text == before.new_text and edit.new_text == before.old_text != edit.old_text
