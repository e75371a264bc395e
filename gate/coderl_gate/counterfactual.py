"""Counterfactual labels: would a suggestion that was not taken have been kept? Compared with what was typed there next. Pure.

A withheld suggestion has no outcome, but the programmer writes on, and what stands at its place a little later says whether it
was right. The rule, with `suggested` what was generated and `typed` what was put at its place since:

    would_keep        all of `suggested` was typed (whatever follows it)
    would_keep_part   a first part of it was typed that ends between words and has at least `MIN_PART_CHARS` visible
                      characters: what an editor's "accept next word" or "accept line" could have taken
    would_reject      something else was typed before that
    unknown           too little was typed to tell, or nothing

Not counted as a difference: CR LF for LF, blanks at the end of a line, the indentation of all lines but the first (what
re-indenting editors change). Edit distance is not used: Adaptive Placeholder Completion (2026) reports that of three million
real suggestions 61 % were rejected or edited although more than 80 % similar to what was written, so similar is not kept.

Looked is after `horizon_s`: 15 s is the first of Copilot's looks at an accepted text (vscode-copilot-chat `postInsertion.ts`),
120 s its third; half a second per character in between is slow typing with thinking (our assumption).

A label is weak evidence. It errs towards keeping: nobody had to read the suggestion, and who reads one may still turn it down.
It errs towards rejecting where the same was meant in other words. It is a record of its own (`coderl_store.records.Shadow`), is
never an outcome, and no fit uses it unasked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coderl_store.shadow import ShadowVerdict

MIN_PART_CHARS: Final = 3
"""Fewer visible characters are not worth a key press (our assumption, the simulated programmer's too)."""
FIRST_LOOK_S: Final = 15.0
LAST_LOOK_S: Final = 120.0
CHARS_PER_S: Final = 2.0
SPARE_CHARS: Final = 200
"""How much more than twice the suggestion's length is looked at, for indentation and empty ends of lines."""

_BLANKS = " \t"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two texts go together from their beginnings."""

    chars: int
    """Leading characters of the suggestion that were typed."""
    whole: bool
    """All of the suggestion was typed, up to blanks at its end."""
    parted: bool
    """Something else was typed; False while one text just ends."""
    next_typed: str
    """The first typed character behind the agreement; empty at the end."""


@dataclass(frozen=True, slots=True)
class Label:
    """What the comparison says."""

    verdict: ShadowVerdict
    agreed_chars: int
    """Leading characters of the suggestion that stand there."""
    typed_chars: int
    """Characters compared with, at most `looked_at`."""


def horizon_s(chars: int) -> float:
    """Seconds to wait before a suggestion of `chars` characters is compared, in [`FIRST_LOOK_S`, `LAST_LOOK_S`]."""
    return min(LAST_LOOK_S, FIRST_LOOK_S + max(0, chars) / CHARS_PER_S)


def looked_at(chars: int) -> int:
    """How many typed characters are enough to judge a suggestion of `chars` characters."""
    return 2 * chars + SPARE_CHARS


def label(suggested: str, typed: str) -> Label:
    """The counterfactual label of `suggested` where `typed` was put in its place. O(both lengths)."""
    typed = typed[: looked_at(len(suggested))]
    found = agreement(suggested, typed)
    if not suggested.strip() or not typed:
        return Label(ShadowVerdict.UNKNOWN, 0, len(typed))
    if found.whole:
        return Label(ShadowVerdict.WOULD_KEEP, len(suggested), len(typed))
    part = part_chars(suggested, found)
    if part:
        return Label(ShadowVerdict.WOULD_KEEP_PART, part, len(typed))
    verdict = ShadowVerdict.WOULD_REJECT if found.parted else ShadowVerdict.UNKNOWN
    return Label(verdict, found.chars, len(typed))


def agreement(suggested: str, typed: str) -> Agreement:
    """Go along both texts until they differ, up to what re-indenting editors change. O(both lengths)."""
    wanted, given = _unix(suggested).rstrip(), _unix(typed)
    here = there = agreed = 0
    line_begins = False
    while True:
        if line_begins:
            here, there = _past_blanks(wanted, here), _past_blanks(given, there)
        here, there = _past_line_tail(wanted, here), _past_line_tail(given, there)
        if here == len(wanted) or there == len(given) or wanted[here] != given[there]:
            break
        line_begins = wanted[here] == "\n"
        here, there = here + 1, there + 1
        agreed = here
    whole = here == len(wanted)
    parted = not whole and there < len(given)
    return Agreement(agreed, whole, parted, given[there : there + 1])


def part_chars(suggested: str, found: Agreement) -> int:
    """The longest agreeing first part of a suggestion that ends between words, in characters; 0 where it is not worth a key."""
    text = _unix(suggested)
    cut = found.chars
    if _inside_word(text[:cut], text[cut : cut + 1]) or _inside_word(text[:cut], found.next_typed):
        while cut and _is_word(text[cut - 1]):
            cut -= 1
    visible = sum(not character.isspace() for character in text[:cut])
    return cut if visible >= MIN_PART_CHARS else 0


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _past_line_tail(text: str, at: int) -> int:
    """Behind the blanks at `at`, where nothing but they is left of the line."""
    end = _past_blanks(text, at)
    return end if end == len(text) or text[end] == "\n" else at


def _inside_word(before: str, after: str) -> bool:
    return bool(before) and bool(after) and _is_word(before[-1]) and _is_word(after)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
