"""What is done to the text of a suggestion once decoding has stopped: named pure filters, in a fixed order.

A filter takes the text and the place and gives back the text, a beginning of it, or a `Drop`: nothing of it is worth showing.
One filter (`indentation`) rewrites instead of cutting: it changes the blanks at line beginnings and nothing else. So the tokens
of what is left can always be told: `Filtered.end_of` says where the end of a token lies in the final text. The ids stay those
that the model wrote, because they are what it did; where blanks were rewritten they do not spell the text.

Filters that need the session (credentials, what was deleted or rejected just now) are the language server's.

After Tabby (`TabbyML/tabby`, `clients/tabby-agent/src/codeCompletion/postprocess`), Continue (`continuedev/continue`,
`core/autocomplete`) and Copilot's client (`microsoft/vscode-copilot-chat`); constants that were adopted are named where they
stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from coderl_generator.indentation import moved, repaired
from coderl_generator.prompt import Place
from coderl_generator.stop_rules import FollowingLine, Reason, Repetition

SAME_LINE_CHARS: Final = 5
"""A line of fewer characters says nothing by being there twice (Continue `lineIsRepeated`: 4 are too few)."""
SIMILAR_LINES: Final = 6
SIMILAR: Final = 0.9
"""So many lines in a row that are alike to so much of their length are a repetition (Tabby `removeRepetitiveLines.ts`: five
repeats within 10 %)."""
IN_LINE: Final = ((3, 6), (10, 4))
"""(characters, copies): a line that ends in so many copies of so many characters goes round in circles (Tabby
`removeLineEndsWithRepetition.ts`)."""
MIN_CHARS: Final = 3
"""Shorter suggestions need `MIN_LETTERS`. Tabby's `minCompletionChars` is 4; that lost two right answers of 60
(docs/generation.md)."""
MIN_LETTERS: Final = 2
"""Letters or digits that a shorter suggestion needs at least (our assumption)."""
OVERLAP_CHARS: Final = 3
"""The shortest end of a suggestion that counts as a beginning of what follows on the line (our assumption)."""
_COPIED_LINES: Final = 8

_CLOSED_BY_EDITORS = frozenset(")]}>\"'`;,")
_STATEMENT = re.compile(
    r"(?:return|def|class|import|from|if|elif|for|while|with|const|let|var|func|fn|function|public|private|protected|static"
    r"|throw|raise|assert|case|struct|interface|enum|type|use|package|namespace)\b"
    r"|[\w.\[\]]+(?: *: *[\w.\[\], ]+)? *[-+*/|&]?:?=(?!=)"
)
"""What a line begins with that says it once."""
_LAST_WORD = re.compile(r"\w+\Z")
_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing of the text is to be shown."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of the chain."""

    name: str
    apply: Callable[[str, Place], str | Drop]
    reason: Reason | None = None
    """Why the text ends where it ends, where this filter shortened it; None: as before."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """What the chain made of a text."""

    text: str
    reason: Reason | None
    """Why it was shortened or dropped; None where it was not."""
    rewrites: tuple[tuple[str, str], ...] = ()
    """The text before and after each step that changed more than the end."""

    def end_of(self, position: int) -> int:
        """Where a position of the original text lies in `text`."""
        for before, after in self.rewrites:
            position = moved(position, before, after)
        return min(position, len(self.text))


def filtered(text: str, place: Place, filters: Sequence[Filter] | None = None) -> Filtered:
    """The text after all filters (`FILTERS`); the last one that shortened it gives the reason."""
    reason: Reason | None = None
    rewrites: tuple[tuple[str, str], ...] = ()
    for step in FILTERS if filters is None else filters:
        if not text.strip():
            break
        got = step.apply(text, place)
        if isinstance(got, Drop):
            return Filtered("", got.reason, rewrites)
        if not text.startswith(got):
            rewrites = (*rewrites, (text, got))
        elif got != text:
            reason = step.reason or reason
        text = got
    return Filtered(text, reason, rewrites)


def line_end(text: str, place: Place) -> str:
    """Without the end that repeats what already follows the place on its line.

    Where a closing bracket follows, the text ends before the first one it closes beyond those that the line itself has open and
    that do not follow already. Where anything else follows, the text loses what of its end is a beginning of it. Brackets
    inside quotes on one line do not count; other strings do (not covered).
    """
    rest = place.line_after.strip()
    if not rest:
        return text
    if rest[0] in ")]}":
        opened = unclosed(place.line_before)
        closed = len(rest) - len(rest.lstrip(")]}"))
        at = unbalanced_closer(text, max(0, opened - closed), place.line_before)
        return text[:at] if at is not None and text[at] == rest[0] else text
    stripped = text.rstrip()
    if stripped.endswith(rest):
        return stripped[: -len(rest)]
    for chars in range(min(len(rest), len(stripped)), OVERLAP_CHARS - 1, -1):
        overlap = rest[:chars]
        if stripped.endswith(overlap) and _whole_words(stripped, rest, chars):
            return stripped[:-chars]
    return text


def following_line(text: str, place: Place) -> str:
    """Without what begins with the next line after the place."""
    at = FollowingLine(place.line_before, next_line(place)).cut(text + "\n")
    return text if at is None else text[:at]


def lines_above(text: str, place: Place) -> str | Drop:
    """Nothing where the text says the line above once more, or the lines above from the first of them on."""
    if place.line_after.strip():
        return text
    above = [line.rstrip() for line in _before_line(place).splitlines()[-_COPIED_LINES:]]
    lines = [line.rstrip() for line in (place.line_before + text).split("\n")]
    for count in range(1, min(len(above), len(lines)) + 1):
        same = lines[:count]
        if same == above[-count:] and all(map(_telling, same)):
            return Drop(Reason.DUPLICATE)
    return text


def restated(text: str, place: Place) -> str | Drop:
    """Nothing where the text begins the place's line once more: it can only be cut at its end."""
    begun, again = place.line_before.strip(), text.lstrip()
    if not begun or not again.startswith(begun) or not _STATEMENT.match(begun):
        return text
    return text if _in_word(begun[-1]) and _in_word(again[len(begun) :][:1]) else Drop(Reason.DUPLICATE)


def repeated_lines(text: str, place: Place) -> str:
    """One of the copies where a group of lines comes three times in a row, or six lines in a row are alike."""
    at = Repetition().cut(text + "\n")
    text = text if at is None else text[:at]
    lines = text.split("\n")
    alike = 1
    for number in range(1, len(lines)):
        alike = alike + 1 if _alike(lines[number - 1].strip(), lines[number].strip()) else 1
        if alike == SIMILAR_LINES:
            return "\n".join(lines[: number - SIMILAR_LINES + 2])
    return text


def repeated_in_line(text: str, place: Place) -> str | Drop:
    """Without a last line that ends in copies of the same characters; nothing where that is the only line."""
    stripped = text.rstrip()
    start = stripped.rfind("\n") + 1
    line = stripped[start:]
    for least, copies in IN_LINE:
        for size in range(least, len(line) // copies + 1):
            same = size
            while same < len(line) and line[-same - 1] == line[size - same - 1]:
                same += 1
            if same >= size * copies and any(char.isalpha() for char in line[-size:]):
                return stripped[: start - 1] if stripped[:start].strip() else Drop(Reason.REPETITION)
    return text


def too_short(text: str, place: Place) -> str | Drop:
    """Nothing where the text is only what editors close by themselves, or quicker typed than read."""
    signs = "".join(text.split())
    letters = sum(1 if char.isascii() else 2 for char in signs if char.isalnum())
    if not set(signs) - _CLOSED_BY_EDITORS or (len(text.strip()) < MIN_CHARS and letters < MIN_LETTERS):
        return Drop(Reason.TOO_SHORT)
    return text


FILTERS: tuple[Filter, ...] = (
    Filter("indentation", repaired),
    Filter("line_end", line_end, Reason.DUPLICATE),
    Filter("following_line", following_line, Reason.DUPLICATE),
    Filter("lines_above", lines_above, Reason.DUPLICATE),
    Filter("restated", restated, Reason.DUPLICATE),
    Filter("repeated_lines", repeated_lines, Reason.REPETITION),
    Filter("repeated_in_line", repeated_in_line, Reason.REPETITION),
    Filter("too_short", too_short, Reason.TOO_SHORT),
)
"""The chain. Indentation first, because lines are compared with their indentation; what is left must be long enough last."""


def next_line(place: Place) -> str:
    """The next line after the place that holds more than blanks; empty where text follows on the place's own line."""
    if place.line_after.strip():
        return ""
    return next((line for line in place.suffix.splitlines()[1:] if line.strip()), "")


def unclosed(text: str) -> int:
    """Brackets that a text opens and does not close; those between quotes do not count."""
    open_brackets = 0
    for char in _unquoted(text):
        if char in "([{":
            open_brackets += 1
        elif char in ")]}":
            open_brackets = max(0, open_brackets - 1)
    return open_brackets


def unbalanced_closer(text: str, allowed: int = 0, before: str = "") -> int | None:
    """Index of the first closing bracket beyond `allowed` that closes nothing opened in `text`; None where there is none.

    `before` is the text of the line before it: quotes may begin there.
    """
    open_brackets = 0
    for at, char in enumerate(_unquoted(before + text)[len(before) :]):
        if char in "([{":
            open_brackets += 1
        elif char in ")]}":
            if open_brackets:
                open_brackets -= 1
            elif allowed:
                allowed -= 1
            else:
                return at
    return None


def standing(text: str, place: Place) -> str:
    """The text of a line that a deadline cut, if it stands alone; else nothing.

    It does not where a bracket that it opens or a quote stays open, and where its last word may be begun only: a word that the
    document does not hold.
    """
    before, whole = place.line_before, text.rstrip()
    bare = _unquoted(before + whole)
    line = bare[len(before) :]
    if any(quote in bare for quote in "\"'`") or sum(map(line.count, "([{")) > sum(map(line.count, ")]}")):
        return ""
    begun = _LAST_WORD.search(whole)
    known = begun is None or re.search(rf"(?<!\w){re.escape(begun.group())}(?!\w)", f"{place.prefix}\n{place.suffix}")
    return whole if known else ""


def _unquoted(text: str) -> str:
    """The text with what stands between quotes on one line blanked out."""
    return _QUOTED.sub(lambda found: "_" * len(found.group()), text)


def _before_line(place: Place) -> str:
    return place.prefix[: len(place.prefix) - len(place.line_before)]


def _telling(line: str) -> bool:
    bare = line.strip()
    return len(bare) >= SAME_LINE_CHARS and any(map(str.isalnum, bare))


def _whole_words(text: str, rest: str, chars: int) -> bool:
    """Whether the last `chars` of `text`, which are the first of `rest`, are cut out of neither in the middle of a word."""
    before, first = text[-chars - 1 : -chars], text[-chars]
    last, after = rest[chars - 1], rest[chars : chars + 1]
    split = (_in_word(before) and _in_word(first)) or (_in_word(last) and _in_word(after))
    return not split and any(map(str.isalnum, rest[:chars]))


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _alike(a: str, b: str) -> bool:
    if min(len(a), len(b)) < SAME_LINE_CHARS or not any(map(str.isalnum, a)):
        return False
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() >= SIMILAR and matcher.quick_ratio() >= SIMILAR and matcher.ratio() >= SIMILAR
