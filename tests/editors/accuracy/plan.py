"""What a programmer does with suggestions, and the outcome each must get: a seeded plan that every client is driven through.

Pure: no editor, no clock, no file. The truth is defined by what the programmer did, whatever a client reports and a server can
know of it:

| what was done | true outcome | characters |
| --- | --- | --- |
| all that remained was accepted, undone afterwards or not | accepted | all but those typed before |
| words or a line were accepted, and not the rest | partially_accepted | those accepted |
| it was typed to its end | typed_through | 0 |
| waved away with the key for it | dismissed | 0 |
| something else was typed at its place, some of it typed before or not | disagreed | 0 |
| text before it was removed | deleted | 0 |
| insert mode or the line was left | moved_on | 0 |
| looked at for more than ten seconds | timed_out | 0 |
| typed against when it had hardly appeared | not_seen | 0 |

Characters are code points, a line end is one. Not in the plan: pasting, formatters, snippets, several cursors, several
candidates, a suggestion that comes back after it was left.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from coderl_store.records import OutcomeKind


class Act(StrEnum):
    """One thing the programmer does. What it is in an editor, its driver knows."""

    ACCEPT = "accept"
    WORD = "word"
    LINE = "line"
    DISMISS = "dismiss"
    TYPE = "type"
    """Key by key; editors indent by themselves after a line end, so a driver types what is missing."""
    ENTER = "enter"
    """A new line is begun, indented as the editor does it, and the text is typed there."""
    ESCAPE = "escape"
    """Insert mode is left."""
    UP = "up"
    """The cursor goes to the line above; text goes on being inserted there."""
    BACKSPACE = "backspace"
    UNDO = "undo"


class Move(StrEnum):
    """All that is done with one suggestion."""

    ACCEPT = "accept"
    ACCEPT_THEN_UNDO = "accept, undo"
    TYPE_THEN_ACCEPT = "type a part, accept"
    WORDS_THEN_ESCAPE = "words, Esc"
    WORDS_THEN_REST = "words, accept"
    WORDS_THEN_AGAINST = "words, type against it"
    LINE_THEN_ESCAPE = "line, Esc"
    LINE_THEN_REST = "line, accept"
    TYPE_THROUGH = "type it"
    TYPE_THEN_AGAINST = "type a part, then against it"
    TYPE_THEN_ESCAPE = "type a part, Esc"
    AGAINST = "type against it"
    ENTER = "go on with a new line"
    ESCAPE = "Esc"
    DISMISS = "dismiss"
    AWAY = "cursor to another line"
    DELETE = "delete"
    GLIMPSE = "type against it at once"
    LINGER = "look at it for long"


class Onwards(StrEnum):
    """How the programmer goes on afterwards in the same document."""

    NOTHING = "nothing"
    TYPE_ON = "type on"
    """Where the cursor is, text goes on being inserted."""
    BELOW = "below"
    """On a new line below the cursor's."""
    TOP = "top"
    """At the end of the first line."""


@dataclass(frozen=True, slots=True)
class Step:
    """One act. `text`: what it writes; `rest`: the ghost text that must be on screen then ("": none, or it does not matter)."""

    act: Act
    text: str = ""
    rest: str = ""
    pause_ms: int = 0
    """How long the programmer waits before it."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The outcome that must be logged."""

    kind: OutcomeKind
    accepted_chars: int = 0


@dataclass(frozen=True, slots=True)
class Interaction:
    """One suggestion, in a document of its own. All text has \\n as line end; the document is written with `newline`."""

    number: int
    move: Move
    place: str
    newline: str
    before: str
    """The document up to the cursor, the key included that brings the suggestion."""
    after: str
    text: str
    """The suggestion."""
    pattern: str
    """What the prompt ends with there (a regular expression), and at no other place of the plan."""
    steps: tuple[Step, ...]
    pace_ms: int
    """Between two keys of an act."""
    onwards: Onwards
    truth: Truth

    @property
    def name(self) -> str:
        """Of the document."""
        return f"case_{self.number:04d}.py"

    @property
    def key(self) -> str:
        """What is typed so that the suggestion comes."""
        return self.before[-1]

    @property
    def given(self) -> str:
        """The document up to the cursor before that key."""
        return self.before[:-1]

    @property
    def glimpse(self) -> bool:
        """The first act comes before the suggestion can have been read."""
        return self.move is Move.GLIMPSE


@dataclass(frozen=True, slots=True)
class Client:
    """What can be done in a client, and how much a word and a line are there (characters of what remains)."""

    name: str
    plugin: bool
    moves: tuple[Move, ...]
    word: Callable[[str], int]
    line: Callable[[str], int]
    brackets: bool = True
    """Suggestions may have brackets (an editor that closes them by itself does not write what is typed)."""
    floor: float | None = None
    """The accuracy that is asked of it, where it is not the usual one."""

    @property
    def least(self) -> float:
        """The accuracy that is asked of it."""
        return self.floor or (0.99 if self.plugin else 0.95)


SETTINGS: Mapping[str, Any] = MappingProxyType(
    {"rule": "always_show", "mode": "block", "maxTokens": 200, "cooldownS": 0, "rememberRejections": 0}
)
"""What the server must be told: every suggestion is shown as it is scripted, whatever became of the one before."""
SEEN_MS = 450
"""Pause before an act that must not come within the 250 ms that count as not seen, on a busy machine either."""
LONG_MS = 10_600
"""Longer than the time after which a suggestion counts as timed out."""
MANY = 6
"""How often a usual move is drawn where a slow one (`LINGER`) is drawn once."""


def next_word(text: str) -> int:
    """A word with the blanks before it; a run of signs; a line end with the indentation behind it (editors/nvim)."""
    found = re.match(r"\n[ \t]*|[ \t]*(?:(?:\w|[^\x00-\x7f])+|[^\w\s\x80-\U0010ffff]+)?", text)
    assert found is not None
    return found.end()


def next_line(text: str) -> int:
    """Up to the end of the line, of the next one where a line end comes first (editors/nvim)."""
    end = text.find("\n", 1 if text.startswith("\n") else 0)
    return len(text) if end < 0 else end


_PLAIN = tuple(move for move in Move if move.value.split(",")[0] not in ("words", "line", "dismiss"))
_PARTS = tuple(move for move in Move if move.value.split(",")[0] in ("words", "line"))
NEOVIM_PLUGIN = Client("Neovim, our plugin", True, tuple(Move), next_word, next_line)
NEOVIM = Client("Neovim, bare", False, _PLAIN, next_word, next_line)
BARE = Client("bare LSP client", False, _PLAIN, next_word, next_line)
# A word of one character and a key are the same to a server that is told of neither.
BARE_PARTS = Client("bare LSP client that takes words and lines", False, (*_PLAIN, *_PARTS), next_word, next_line, floor=0.9)


def plan(seed: int, count: int, client: Client) -> tuple[Interaction, ...]:
    """`count` interactions, every move of the client about as often as every other (slow ones less), in seeded order."""
    choice = random.Random(f"{seed} {client.name}")
    deck = [move for move in client.moves for _ in range(1 if move is Move.LINGER else MANY)]
    moves: list[Move] = []
    while len(moves) < count:
        hand = sorted(set(deck)) if not moves else deck[:]
        choice.shuffle(hand)
        moves += hand
    return tuple(
        _interaction(number, move, client, random.Random(f"{seed} {client.name} {number}"))
        for number, move in enumerate(moves[:count], start=1)
    )


def script(interactions: Iterable[Interaction]) -> dict[str, Any]:
    """What the scripted generator must say (`coderl_generator.scripted`): nothing but the suggestions at their places."""
    return {"rules": [{"pattern": one.pattern, "text": one.text} for one in interactions]}


# --- text

_NAMES = ("total", "width", "a", "b", "i", "count", "höhe", "items", "x2", "offset_px", "値", "max_retries", "q")
_TERMS = ("{0}", "{0}.{1}", "{0}({1})", "{0}[{1}]", "1", "42", "'🙂 {0}'")
_FLAT_TERMS = ("{0}", "{0}.{1}", "1", "42")
_SIGNS = (" + ", " - ", " * ", " // ", ", ", " or ", " == ")


def _expression(choice: random.Random, brackets: bool, least_chars: int = 10) -> str:
    parts = [choice.choice(_NAMES)]
    while len(parts) == 1 or len("".join(parts)) < least_chars or (len(parts) < 10 and choice.random() < 0.3):
        term = choice.choice(_TERMS if brackets else _FLAT_TERMS)
        parts += [choice.choice(_SIGNS), term.format(choice.choice(_NAMES), choice.choice(_NAMES))]
    return "".join(parts)


_HEAD = "import sys\nfrom pathlib import Path\n\n"
_LINES, _BODY = "several lines", "body of several lines"
_PLACES = ("end of the line", "mid-line", _LINES, _BODY, "emoji before", "CJK before", "in a function")


def _place(number: int, place: str, client: Client, choice: random.Random) -> tuple[str, str, str, str]:
    """The document before and after the cursor, the suggestion, and the pattern."""
    name, line = f"n{number:04d}", _expression(choice, client.brackets)
    after, pattern, text = "\n", rf"{name}\Z", f"_{line}"
    match place:
        case "mid-line":
            # No suggestion goes on with "@": Neovim draws what equals the text behind the cursor in the wrong place.
            before, after = f"print({name}", "@b, sep='')\n"
        case _ if place == _LINES:
            before = f"def outer(value):\n    if {name}"
            text = f"_{line}:\n        value.size = {_expression(choice, client.brackets)}"
        case _ if place == _BODY:
            before, pattern = f"def {name}(a, b):", rf"def {name}\(a, b\):\Z"
            text = f"\n    c = {line}\n    return c"
        case "emoji before":
            before = f"x['🙂👩‍👧𝕏'] = {name}"
        case "CJK before":
            before, pattern, text = f"名前['日本語'] = {name} +", rf"{name} \+\Z", f" {line}"
        case "in a function":
            before = f"def outer(value):\n    for item in value:\n        item.size = {name}"
        case _:
            before, pattern, text = f"{name} =", rf"{name} =\Z", f" {line}"
    return _HEAD + before, after, text, pattern


# --- moves


def _interaction(number: int, move: Move, client: Client, choice: random.Random) -> Interaction:
    places = [one for one in _PLACES if move is not Move.ENTER or one != _BODY]  # there, the suggestion begins with a new line
    place = choice.choice((_LINES, _BODY) if move.value.startswith("line") else places)
    before, after, text, pattern = _place(number, place, client, choice)
    steps, truth = _steps(move, text, client, choice)
    return Interaction(
        number=number,
        move=move,
        place=place,
        newline=choice.choice(("\n", "\n", "\n", "\r\n")),
        before=before,
        after=after,
        text=text,
        pattern=pattern,
        steps=steps,
        pace_ms=choice.choice((40, 80, 120, 180, 260)),
        onwards=choice.choice(_onwards(move, place)),
        truth=truth,
    )


def _onwards(move: Move, place: str) -> tuple[Onwards, ...]:
    left = (Onwards.NOTHING, Onwards.TOP)
    if place != _BODY:  # there, the rest would come again on a new line
        left = (*left, Onwards.BELOW)
    gone = move.value.endswith("Esc") or move in (Move.AWAY, Move.DISMISS, Move.LINGER, Move.ACCEPT_THEN_UNDO)
    return left if gone else (*left, Onwards.TYPE_ON)


def _steps(move: Move, text: str, client: Client, choice: random.Random) -> tuple[tuple[Step, ...], Truth]:
    begun = move.value.split(",")[0]
    if begun in ("words", "line"):
        first = _bites(text, Act.WORD if begun == "words" else Act.LINE, client, choice)
    elif begun == "type a part":
        cut = choice.randrange(1, min(9, len(text) - 1))
        if text.startswith("\n"):  # indented by the editor
            cut = max(cut, len(text) - len(text.lstrip()))
        first = [_type(text[:cut], text[cut:])]
    else:
        return _only(move, text, choice)
    rest = first[-1].rest
    whole = begun != "type a part"
    steps, taken = (*first, *_last(move, rest, choice)), len(text) - len(rest)
    match steps[-1].act:
        case Act.ACCEPT:
            return steps, Truth(OutcomeKind.ACCEPTED, len(text) if whole else len(rest))
        case _ if whole:
            return steps, Truth(OutcomeKind.PARTIALLY_ACCEPTED, taken)
        case Act.ESCAPE:
            return steps, Truth(OutcomeKind.MOVED_ON)
    return steps, Truth(OutcomeKind.DISAGREED)


def _only(move: Move, text: str, choice: random.Random) -> tuple[tuple[Step, ...], Truth]:
    """Moves of one part."""
    kind = OutcomeKind
    match move:
        case Move.ACCEPT:
            return (_accept(text, choice),), Truth(kind.ACCEPTED, len(text))
        case Move.ACCEPT_THEN_UNDO:
            pause_ms = choice.choice((300, 700, 1500))
            return (_accept(text, choice), Step(Act.UNDO, pause_ms=pause_ms)), Truth(kind.ACCEPTED, len(text))
        case Move.TYPE_THROUGH:
            return (_type(text, ""),), Truth(kind.TYPED_THROUGH)
        case Move.AGAINST:
            return (_type(_against(text, choice), ""),), Truth(kind.DISAGREED)
        case Move.ENTER:
            return (Step(Act.ENTER, "# so", pause_ms=SEEN_MS),), Truth(kind.DISAGREED)
        case Move.GLIMPSE:
            return (Step(Act.TYPE, _against(text, choice)[0]),), Truth(kind.NOT_SEEN)
        case Move.DELETE:
            return (Step(Act.BACKSPACE, pause_ms=SEEN_MS),), Truth(kind.DELETED)
        case Move.LINGER:
            return (Step(Act.ESCAPE, pause_ms=LONG_MS),), Truth(kind.TIMED_OUT)
        case Move.DISMISS:
            return (Step(Act.DISMISS, pause_ms=SEEN_MS),), Truth(kind.DISMISSED)
        case _:
            act = Act.UP if move is Move.AWAY else Act.ESCAPE
            return (Step(act, pause_ms=SEEN_MS),), Truth(kind.MOVED_ON)


def _last(move: Move, rest: str, choice: random.Random) -> tuple[Step, ...]:
    """What a move of two parts ends with."""
    pause_ms = choice.choice((60, 150, 300, 600))
    match move.value.rpartition(", ")[2]:
        case "accept":
            return (Step(Act.ACCEPT, rest, pause_ms=pause_ms),)
        case "Esc":
            return (Step(Act.ESCAPE, pause_ms=pause_ms),)
        case _:
            return (Step(Act.TYPE, _against(rest, choice), pause_ms=pause_ms),)


def _accept(text: str, choice: random.Random) -> Step:
    return Step(Act.ACCEPT, text, pause_ms=choice.choice((0, 100, 350, 900)))


def _type(text: str, rest: str) -> Step:
    return Step(Act.TYPE, text, rest, pause_ms=SEEN_MS)


def _bites(text: str, act: Act, client: Client, choice: random.Random) -> list[Step]:
    """The first words (some, not all), or the first line."""
    size_of = client.word if act is Act.WORD else client.line
    steps: list[Step] = []
    rest, left, pause_ms = text, choice.randrange(1, 4) if act is Act.WORD else 1, SEEN_MS
    while left and (not steps or size_of(rest) < len(rest)):
        size = size_of(rest)
        steps.append(Step(act, rest[:size], rest[size:], pause_ms))
        rest, left, pause_ms = rest[size:], left - 1, choice.choice((60, 200, 400, 800))
    return steps


def _against(rest: str, choice: random.Random) -> str:
    """A few keys, the first of which the suggestion does not have there."""
    first = choice.choice([sign for sign in "zk7;." if not rest.startswith(sign)])
    return first + choice.choice(("", "", "ap", "w = 3"))
