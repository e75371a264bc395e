"""Where the programmer edited last: lines of documents, kept in step with later edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .positions import Edit

MOST = 8
"""Places remembered."""
TOGETHER_LINES = 10
"""Edits so near to each other are one place."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place that was edited."""

    uri: str
    line: int


class Touched:
    """The last places, most recent last. No text is held."""

    def __init__(self) -> None:
        self._spots: list[Spot] = []

    @property
    def spots(self) -> tuple[Spot, ...]:
        """Most recent last."""
        return tuple(self._spots)

    def edited(self, uri: str, edits: Sequence[Edit]) -> None:
        """A document was changed."""
        for edit in edits:
            line = edit.new_end[0]
            moved = (_moved(spot, edit) if spot.uri == uri else spot for spot in self._spots)
            self._spots = [spot for spot in moved if spot.uri != uri or abs(spot.line - line) > TOGETHER_LINES]
            self._spots = [*self._spots, Spot(uri, line)][-MOST:]


def _moved(spot: Spot, edit: Edit) -> Spot:
    if spot.line <= edit.end_line:
        return spot
    return Spot(spot.uri, spot.line + edit.new_end[0] - edit.end_line)
