"""A programmer made of real code: which keys, when, where a pause, and what is done with a suggestion. Pure; no clock, no pipe.

Everything random is drawn per *offset* of the text before the session starts, so that two sessions over the same file and seed
that differ in the server only (another gate, another rule) have the same keys, the same pauses and the same requests wherever
both get to type (common random numbers). What an accept jumps over is simply never used.

Sources and assumptions:
- Gaps between keys are log-normal around the given speed with a coefficient of variation of 0.47. Dhakal et al., "Observations
  on typing from 136 million keystrokes" (CHI 2018), report a mean of 239 ms with a standard deviation of 112 ms.
- Pauses are a second, slower process on top of fluent typing, log-normal again: the mixture view of Roeser et al., "Modelling
  typing disfluencies as finite mixture process" (Reading and Writing, 2021). That they grow with the size of the unit that has
  just ended (word < clause < line) is well established for prose (Medimorec & Risko, Reading and Writing, 2017); the
  probabilities and medians of `PauseHabits` themselves are our assumption.
- That suggestions are judged correctly, always read to the end, and accepted exactly where they agree with what is really
  typed next is our assumption: a lower bound on what a flexible reader would take, and free of careless accepts.

- "Agrees" is meant to the letter: where two empty lines are to be typed before a `def`, a suggestion of that very `def` counts
  as wrong on the first of them.

Not modelled: typing errors and corrections, moving around in the file, auto-indentation and bracket completion of an editor.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

KEY_VARIATION = 0.47
"""Coefficient of variation of the gaps between keys (112 ms / 239 ms, Dhakal et al. 2018)."""

_FIRST_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")


class Place(StrEnum):
    """What has just been typed where a programmer may pause."""

    LINE_END = "line_end"
    OPENING = "opening"
    """After one of ( [ { = : , ."""
    WORD_END = "word_end"


@dataclass(frozen=True, slots=True)
class Habit:
    """How often and how long a programmer pauses at one kind of place."""

    probability: float
    median_s: float
    spread: float = 0.6
    """Standard deviation of ln(length)."""


@dataclass(frozen=True, slots=True)
class PauseHabits:
    """One habit per place. The numbers are our assumption (see the head of this module)."""

    line_end: Habit = Habit(0.6, 1.2)
    opening: Habit = Habit(0.35, 0.7)
    word_end: Habit = Habit(0.15, 0.5)

    def at(self, place: Place) -> Habit:
        """The habit of one kind of place."""
        return {Place.LINE_END: self.line_end, Place.OPENING: self.opening, Place.WORD_END: self.word_end}[place]


@dataclass(frozen=True, slots=True)
class Pause:
    """A stop after a key."""

    place: Place
    length_s: float
    asks: bool = True
    """False where the sample of `max_requests` left this pause out: the programmer stops, the editor does not ask."""
    dismisses: bool = False
    """True: a suggestion rejected here is dismissed with Esc; False: the programmer types on."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key press: what it inserts (CR LF is one key), how long after the one before, and the pause that follows."""

    text: str
    gap_s: float
    pause: Pause | None = None


class Take(StrEnum):
    """How much of a suggestion the programmer takes."""

    WHOLE = "whole"
    PART = "part"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the programmer does with a suggestion; `chars` code points of its new text are taken."""

    take: Take
    chars: int = 0


def keys_of(text: str) -> list[str]:
    """The text as key presses: code points, with CR LF kept together."""
    return re.findall(r"\r\n|[\s\S]", text)


def place_after(typed: str, upcoming: str) -> Place | None:
    """The kind of place between a key and the next one, or None in the middle of a word, in indentation, or at the end."""
    if not upcoming:
        return None
    if typed in ("\n", "\r", "\r\n"):
        return Place.LINE_END
    if typed in tuple("([{=:,."):
        return Place.OPENING
    if _is_word(typed) and not _is_word(upcoming[0]):
        return Place.WORD_END
    return None


def plan(
    text: str,
    rng: random.Random,
    *,
    chars_per_second: float,
    habits: PauseHabits | None = None,
    max_requests: int | None = None,
    dismiss_probability: float = 0.2,
) -> list[Key]:
    """Every key of `text` with its timing. At most `max_requests` pauses ask (a uniform sample, drawn from `rng`)."""
    habits = habits or PauseHabits()
    sigma = math.sqrt(math.log(1.0 + KEY_VARIATION**2))
    mu = -math.log(chars_per_second) - sigma**2 / 2.0  # so that the *mean* gap is 1 / speed
    pressed = keys_of(text)
    keys: list[Key] = []
    for index, key in enumerate(pressed):
        gap_s = rng.lognormvariate(mu, sigma)
        # Drawn whatever the place is, so that other habits leave the dice of the remaining keys as they are.
        chance, length, dismissal = rng.random(), rng.gauss(0.0, 1.0), rng.random()
        place = place_after(key, pressed[index + 1] if index + 1 < len(pressed) else "")
        pause = None
        if place is not None:
            habit = habits.at(place)
            if chance < habit.probability:
                length_s = habit.median_s * math.exp(habit.spread * length)
                pause = Pause(place, length_s, dismisses=dismissal < dismiss_probability)
        keys.append(Key(key, gap_s, pause))
    return _sample(keys, max_requests, rng)


def _sample(keys: list[Key], max_requests: int | None, rng: random.Random) -> list[Key]:
    asking = [index for index, key in enumerate(keys) if key.pause is not None]
    if max_requests is None or len(asking) <= max_requests:
        return keys
    kept = set(rng.sample(asking, max_requests))
    return [
        replace(key, pause=replace(key.pause, asks=index in kept)) if key.pause is not None else key
        for index, key in enumerate(keys)
    ]


def choose_region(text: str, max_chars: int | None, rng: random.Random) -> tuple[int, int]:
    """The part of the file to type, [start, end) in code points: whole lines, without the last line's newline.

    The whole file where it is short enough or no limit is given. Otherwise a start line is drawn among those from which
    `max_chars` are left (so the region is full), and as many whole lines as fit are taken; a first line (with an empty one
    before it, perhaps) that is longer than the limit is cut, but never between CR and LF.
    """
    if max_chars is None or len(text) <= max_chars:
        return 0, len(text)
    starts = [0] + [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]
    full = [start for start in starts if len(text) - start >= max_chars] or [0]
    start = rng.choice(full)
    ends = [match.start() for match in re.finditer(r"\r\n|\n|\r", text) if start < match.start() <= start + max_chars]
    if ends:
        return start, ends[-1]
    end = start + max_chars
    return start, end - 1 if text[end - 1 : end + 1] == "\r\n" else end


def judge(new_text: str, upcoming: str, *, min_part_chars: int = 3) -> Judgement:
    """What a programmer who is about to type `upcoming` takes of a suggestion that would insert `new_text`.

    All of it where it agrees; else its first line (with its line break where that agrees too); else its first word. A part is
    worth a key press only from `min_part_chars` characters on (our assumption), and never ends within a word of `upcoming`.
    """
    if not new_text:
        return Judgement(Take.NOTHING)
    if upcoming.startswith(new_text) and not _cuts_line_break(new_text, upcoming):
        return Judgement(Take.WHOLE, len(new_text))
    for part in _parts(new_text):
        cuts = _cuts_word(part, upcoming) or _cuts_line_break(part, upcoming)
        if len(part.strip()) >= min_part_chars and upcoming.startswith(part) and not cuts:
            return Judgement(Take.PART, len(part))
    return Judgement(Take.NOTHING)


def _parts(text: str) -> Sequence[str]:
    parts = []
    line = re.match(r"[^\r\n]*", text)
    if line is not None and line.end() < len(text):
        parts += [text[: line.end()] + text[line.end() :][: 2 if text.startswith("\r\n", line.end()) else 1], line.group()]
    word = _FIRST_WORD.match(text)
    if word is not None:
        parts.append(word.group())
    return parts


def _cuts_word(part: str, upcoming: str) -> bool:
    after = upcoming[len(part) : len(part) + 1]
    return bool(after) and _is_word(part[-1:]) and _is_word(after)


def _cuts_line_break(part: str, upcoming: str) -> bool:
    return part.endswith("\r") and upcoming.startswith("\n", len(part))


def _is_word(text: str) -> bool:
    return re.fullmatch(r"\w", text) is not None
