"""Where a suggestion ends: one small pure class per rule.

A rule looks at the text so far (without the whitespace that only repeats the end of the prompt) and answers with the index of
the first character that no longer belongs to the suggestion, or None. Rules never need the future: what they answer stays true
when more text comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from coderl_generator.indentation import CLOSER, CONTINUER, indent_columns, opens, shortfall


class Reason(StrEnum):
    """Why the text of a suggestion ends where it ends."""

    END = "end"
    """The model's end of sequence."""
    LENGTH = "length"
    """The token budget."""
    DEADLINE = "deadline"
    """The time budget."""
    STOP_TEXT = "stop_text"
    """One of the request's own stop texts."""
    LINE = "line"
    """The end of the line, in single-line mode."""
    BLOCK = "block"
    """The end of the block, by indentation."""
    SYNTAX = "syntax"
    """The end of the statement or body that was begun, by a syntax tree (a rule that the caller hands in)."""
    FENCE = "fence"
    """A Markdown fence: the model began to talk about the code."""
    MARKER = "marker"
    """A control token of some model family leaked into the text."""
    MAX_CHARS = "max_chars"
    REPETITION = "repetition"
    """The model began to repeat its own lines."""
    DUPLICATE = "duplicate"
    """The model began to write what already stands around the place."""
    UNPROMISING = "unpromising"
    """Whoever watched it being written gave it up (`coderl_generator.complete.Watch`)."""
    TOO_SHORT = "too_short"
    """Nothing but what an editor closes by itself, or quicker typed than read."""
    UNLIKELY = "unlikely"
    """Another candidate for the place is better, whatever would have come."""
    MISMATCH = "mismatch"
    """The text does not continue the whitespace before the place (`coderl_generator.prompt.Rematch`)."""


class StopRule(Protocol):
    """One way for a suggestion to end."""

    @property
    def reason(self) -> Reason:
        """What to report when this rule ended the suggestion."""
        ...

    def cut(self, text: str) -> int | None:
        """Index of the first character that does not belong to the suggestion; None while all of it does."""
        ...


@dataclass(frozen=True, slots=True)
class SingleLine:
    """Ends at the first line break."""

    reason: Reason = Reason.LINE

    def cut(self, text: str) -> int | None:
        at = text.find("\n")
        return None if at < 0 else at


@dataclass(frozen=True, slots=True)
class Texts:
    """Ends before any of some texts: leaked control tokens, markers."""

    texts: Sequence[str]
    reason: Reason = Reason.MARKER

    def cut(self, text: str) -> int | None:
        found = [at for marker in self.texts if (at := text.find(marker)) >= 0]
        return min(found, default=None)


@dataclass(frozen=True, slots=True)
class Fence:
    """Ends before a line that begins with three backticks or tildes; not in Markdown itself, where fences are text."""

    at_line_start: bool
    """Whether the place is at the beginning of a line, so that the first line counts too."""
    reason: Reason = Reason.FENCE

    def cut(self, text: str) -> int | None:
        start = 0
        for index, line in enumerate(text.split("\n")):
            if (index or self.at_line_start) and line.lstrip().startswith(("```", "~~~")):
                return max(0, start - 1)
            start += len(line) + 1
        return None


@dataclass(frozen=True, slots=True)
class MaxChars:
    """Ends after a number of characters."""

    max_chars: int
    reason: Reason = Reason.MAX_CHARS

    def cut(self, text: str) -> int | None:
        return self.max_chars if len(text) > self.max_chars else None


@dataclass(frozen=True, slots=True)
class Repetition:
    """Ends where one to three lines come for the third time in a row; the first of the three copies is kept.

    Only complete lines count, and only groups that hold a letter or digit: three closing brackets are no repetition.
    """

    times: int = 3
    """Copies in a row that make a repetition."""
    reason: Reason = Reason.REPETITION

    def cut(self, text: str) -> int | None:
        lines = text.split("\n")[:-1]
        for size in (1, 2, 3):
            for first in range(len(lines) - size * self.times + 1):
                group = lines[first : first + size]
                copies = (lines[first + size * n : first + size * (n + 1)] for n in range(1, self.times))
                if any(char.isalnum() for line in group for char in line) and all(copy == group for copy in copies):
                    return sum(len(line) + 1 for line in lines[: first + size]) - 1
        return None


@dataclass(frozen=True, slots=True)
class FollowingLine:
    """Ends before a complete line that equals the next line after the place, indentation included.

    A line of brackets alone is a repetition only where it closes more than the text has opened.
    """

    line_before: str
    following: str
    """The next line after the place that is not blank; empty: the rule never applies."""
    reason: Reason = Reason.DUPLICATE

    def cut(self, text: str) -> int | None:
        following = self.following.rstrip()
        if not following:
            return None
        start = 0
        for index, line in enumerate(text.split("\n")[:-1]):
            whole = self.line_before + line if index == 0 else line
            if whole.rstrip() == following and (any(map(str.isalnum, whole)) or _closes_more(text[: start + len(line)])):
                return max(0, start - 1)
            start += len(line) + 1
        return None


def _closes_more(text: str) -> bool:
    return sum(map(text.count, ")]}")) > sum(map(text.count, "([{"))


_TRIPLE_QUOTES = re.compile("\"\"\"|'''")
_BACKTICK = re.compile("`")
_STRING_MARKS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "python": _TRIPLE_QUOTES,
        "go": _BACKTICK,
        **dict.fromkeys(("javascript", "javascriptreact", "typescript", "typescriptreact"), _BACKTICK),
    }
)
"""What begins and ends a string of several lines, by editor language id."""


@dataclass(frozen=True, slots=True)
class Block:
    """Ends by indentation, in the manner of Python or of brace languages.

    The floor is the indentation of the place's line; on an empty line, that of the first line the model writes. The block
    goes on while lines are indented at least as the floor. Where the place's line opens a block (it ends in `:`, `{`, `(`, `[`,
    `then` or `do`), or opens one at the top level, they must be deeper, `else` and its like excepted, and the line that
    closes it at the floor (`}`, `)`, `end` …) is the last one. A blank line followed by a line that is shallower than the one
    above the blank ends the block too: that is a new thought (`thought_ends`).

    A body that is no deeper than the line before it that opens it was counted from the place instead of the margin; it is read,
    and later repaired, as if it were that much deeper (`coderl_generator.indentation.shortfall`).

    A line decides once its first word is known, a closing line once it is complete. Lines inside a string that began on an
    earlier line of the text do not decide. Not covered: strings that begin before the place's line.
    """

    line_before: str
    """The text of the line before the place."""
    language: str
    reason: Reason = Reason.BLOCK
    thought_ends: bool = True
    """A new thought ends it; off, only indentation does."""

    def cut(self, text: str) -> int | None:
        lines = text.split("\n")
        first = next((n for n, line in enumerate(lines) if (line if n else self.line_before + line).strip()), None)
        if first is None:
            return None
        head = self.line_before + lines[0] if first == 0 else lines[first]
        floor = above = indent_columns(head)
        opened = opens(head, self.language) and (floor == 0 or bool(self.line_before.strip()))
        end = last = sum(len(line) + 1 for line in lines[: first + 1]) - 1
        missing = self._missing(lines) if first == 0 else 0
        if missing is None:
            return None
        blank, mark = False, self._string("", head)
        for line in lines[first + 1 :]:
            end += 1 + len(line)
            complete = end < len(text)
            inside, mark = bool(mark), self._string(mark, line)
            if inside or not line.strip():
                blank, last = blank or not inside, end if inside else last
                continue
            here = indent_columns(line) + missing
            new_thought = self.thought_ends and blank and here < above
            if here < floor or (new_thought and not (opened and here == floor and CLOSER.match(line))):
                return last
            if opened and here == floor:
                if not complete and line.strip().isidentifier():
                    return None  # a word that may still become `else`
                if CLOSER.match(line) and not opens(line, self.language):
                    return end if complete else None
                if not CONTINUER.match(line):
                    return last
            above, blank, last = here, False, end
        return None

    def _missing(self, lines: Sequence[str]) -> int | None:
        """Columns by which the lines below the first are too shallow; None while that is open."""
        body = next((n for n, line in enumerate(lines) if n and line.strip()), None)
        if body is None or (lines[0][:1] in (" ", "\t") and not self.line_before.strip()):
            return 0
        line, head = lines[body], self.line_before + lines[0]
        undecided = body == len(lines) - 1 and line.strip()[0] not in ")]}"
        if undecided and 0 < indent_columns(line) <= indent_columns(head) and shortfall(head, " x", self.language):
            return None
        return shortfall(head, line, self.language)

    def _string(self, mark: str, line: str) -> str:
        """The mark of the string that is open behind `line`, where that of `mark` was open before it; empty: none."""
        marks = _STRING_MARKS.get(self.language)
        for found in () if marks is None else marks.finditer(line):
            if not mark:
                mark = found.group()
            elif found.group() == mark:
                mark = ""
        return mark
