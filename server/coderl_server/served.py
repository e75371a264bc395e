"""What the outcome tracker is told of a suggestion, and what it says in the end."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_store.records import Evidence, OutcomeKind


@dataclass(frozen=True, slots=True)
class Served:
    """One suggestion sent to the client. `text` continues the prefix at (line, character), in code points."""

    suggestion_id: str
    decision_id: str
    lineage_id: str
    uri: str
    version: int | None
    line: int
    character: int
    text: str
    at_s: float
    suffix: str = ""
    """The text behind the place, 500 characters or so; without it, trimmed tails and shifted insertions go unrecognised."""
    indented: bool = False
    """Its line holds nothing but blanks before the place."""


@dataclass(frozen=True, slots=True)
class Along:
    """An open suggestion that is being typed."""

    suggestion_id: str
    rest: str
    """What remains of it. *text*"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The terminal outcome of one served suggestion."""

    suggestion_id: str
    decision_id: str
    kind: OutcomeKind
    evidence: Evidence
    visible_ms: float
    accepted_chars: int
    detail: str
    taken: tuple[tuple[int, int], tuple[int, int]] | None = None
    """Start and end of the accepted text as the document stands now (code points); None where it is not known."""
    taken_text: str = ""
    """What of the suggestion lies there, as it was suggested (line ends as \\n); survival is measured against it. *text*"""
