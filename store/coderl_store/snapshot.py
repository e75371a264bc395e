"""What a snapshot of a place knows besides its text: syntax and recent edits. Kinds and numbers only, never code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """The innermost construct around a place, the same words for every language."""

    MODULE = "module"
    """None of the others: the top level."""
    CLASS = "class"
    FUNCTION = "function"
    BLOCK = "block"
    """The body of a branch, a loop, a `try` or the like."""
    PARAMETERS = "parameters"
    ARGUMENTS = "arguments"
    COLLECTION = "collection"
    """A list, dictionary, tuple, subscript or parenthesised expression."""
    STRING = "string"
    COMMENT = "comment"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Syntax:
    """Where a place lies in the syntax tree of its document."""

    scope: Scope
    depth: int
    """Classes, functions and blocks around the place."""
    index: int
    """Statements before it in the innermost body, or items before it in the innermost brackets."""
    share: float | None
    """Part of the innermost function or class that lies before the place, in [0, 1]; None at the top level, and where the text
    after the place is not known."""
    error: bool | None
    """The parser had to mend something on the line; None where the text after the place is not known."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What the programmer did with the text lately, all open documents together."""

    spread_ms: float | None
    """Standard deviation of the gaps between the last keystrokes (at most 20, gaps over 2 s left out); None below two gaps."""
    added_chars: int
    """In the last 10 seconds."""
    deleted_chars: int
    """In the last 10 seconds."""
    deletions: int
    """Edits of the last 10 seconds that only took text away."""
    undone: int
    """Edits of the last 30 seconds that took back one of the five edits before them."""
    lines_away: int | None
    """Lines between the place and the last edit; None where that was in another document, or there was none."""
