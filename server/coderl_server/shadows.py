"""What is typed next where a suggestion was withheld, or shown and not taken: numbers for the log, text in memory only.

Each followed suggestion keeps its text and two positions that move with every edit: the place it was made for, and where the
text behind it begins. Whatever lies between the two when its time has come was put there since, and is compared with the
suggestion (`coderl_gate.counterfactual`). Nothing of either text leaves this module.

Bounded: at most `MOST` suggestions of `MOST_CHARS` characters in all are followed; beyond that the oldest are looked at early.

Covered: typing, corrections, edits anywhere else in the document, brackets that an editor closes by itself, several suggestions
at one place. Not covered: a deletion that reaches the place from before it (the label is then unknown), text that is cut and
pasted to another place, documents that are changed while they are closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coderl_gate.counterfactual import Label, horizon_s, label
from coderl_store.shadow import ShadowVerdict

from .positions import Edit
from .rhythm import KEY_CHARS

MOST = 64
MOST_CHARS = 100_000

Position = tuple[int, int]
TextOf = Callable[[str, Position, Position], str | None]
"""(uri, start, end) → the text there now, or None where the document is not known any more."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found for one suggestion."""

    suggestion_id: str
    decision_id: str
    label: Label
    taken_chars: int
    after_s: float


@dataclass(slots=True)
class _Followed:
    suggestion_id: str
    decision_id: str
    uri: str
    start: Position
    end: Position
    text: str
    since_s: float
    taken_chars: int = 0
    lost: bool = False

    def follow(self, edit: Edit) -> None:
        """Move with one edit."""
        if edit.old_text and edit.start < self.start <= edit.end:
            self.lost = True
        elif self.start <= edit.start <= self.end and len(edit.new_text) > KEY_CHARS:
            self.taken_chars += len(edit.new_text)
        self.start = edit.move(self.start, stay_on_insert=True)
        self.end = edit.move(self.end)


class ShadowTracker:
    """The followed suggestions of one session. Times are seconds of one clock; positions (line, code points)."""

    def __init__(self, text_of: TextOf) -> None:
        self._text_of = text_of
        self._followed: OrderedDict[str, _Followed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._followed)

    def follow(
        self, suggestion_id: str, decision_id: str, uri: str, position: Position, text: str, at_s: float
    ) -> list[Looked]:
        """Follow what was made for a place; returns what had to be looked at early. An id is followed once, blanks never."""
        if suggestion_id in self._followed or not text.strip() or len(text) > MOST_CHARS:
            return []
        self._followed[suggestion_id] = _Followed(suggestion_id, decision_id, uri, position, position, text, at_s)
        early: list[Looked] = []
        while len(self._followed) > MOST or sum(len(one.text) for one in self._followed.values()) > MOST_CHARS:
            early.append(self._look(next(iter(self._followed.values())), at_s))
        return early

    def forget(self, suggestion_id: str) -> None:
        """No label is needed: it was inserted, or a later serving of the same idea stands for it."""
        self._followed.pop(suggestion_id, None)

    def changed(self, uri: str, edits: Sequence[Edit]) -> None:
        """The document was edited; each edit is relative to the result of the one before."""
        here = [one for one in self._followed.values() if one.uri == uri]
        if here:
            for edit in map(Edit.minimal, edits):
                for one in here:
                    one.follow(edit)

    def due(self, at_s: float) -> list[Looked]:
        """Everything whose time has come."""
        return self._look_at((one for one in self._followed.values() if at_s - one.since_s >= horizon_s(len(one.text))), at_s)

    def closed(self, uri: str, at_s: float) -> list[Looked]:
        """The document is about to be closed: what stands there now has to do."""
        return self._look_at((one for one in self._followed.values() if one.uri == uri), at_s)

    def finish(self, at_s: float) -> list[Looked]:
        """The session ends."""
        return self._look_at(self._followed.values(), at_s)

    def _look_at(self, chosen: Iterable[_Followed], at_s: float) -> list[Looked]:
        return [self._look(one, at_s) for one in list(chosen)]

    def _look(self, one: _Followed, at_s: float) -> Looked:
        del self._followed[one.suggestion_id]
        typed = None if one.lost else self._text_of(one.uri, one.start, one.end)
        found = Label(ShadowVerdict.UNKNOWN, 0, 0) if typed is None else label(one.text, typed)
        taken_chars = min(one.taken_chars, found.typed_chars)
        return Looked(one.suggestion_id, one.decision_id, found, taken_chars, max(0.0, at_s - one.since_s))
