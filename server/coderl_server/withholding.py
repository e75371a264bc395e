"""Why a finished text is not shown after all: the filters that need the session, and the generator's reasons in the log's
words.

Pure. They judge the text as it would stand, so they run on every answer, also on what was remembered. The filters that need the
place alone are the generator's (`coderl_generator.postfilter`), and ran before the text was remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from coderl_generator.stop_rules import Reason as Ending
from coderl_store.credentials import credential_in
from coderl_store.records import Reason

from .settings import Settings

MIN_DELETED_CHARS: Final = 3
"""A deletion of fewer characters, blanks aside, is a slip of the finger and says nothing (our assumption)."""

_NOTHING_LEFT: Mapping[Ending, Reason] = MappingProxyType(
    {
        Ending.DUPLICATE: Reason.DUPLICATE,
        Ending.REPETITION: Reason.REPETITION,
        Ending.TOO_SHORT: Reason.TOO_SHORT,
    }
)


def nothing_left(ending: Ending) -> Reason:
    """Why a completion without text is none, from the reason for which it ended."""
    return _NOTHING_LEFT.get(ending, Reason.EMPTY)


def objection_to(
    text: str, line_prefix: str, settings: Settings, *, automatic: bool, deleted: str, rejected_before: Callable[[str], bool]
) -> Reason | None:
    """Why a text is not to be shown behind `line_prefix`; None where nothing speaks against it.

    `deleted` is what was deleted at the place just now. What the programmer took away or rejected may still be asked for.
    """
    if len(text) > settings.max_suggestion_chars or text.count("\n") + 1 > settings.max_suggestion_lines:
        return Reason.TOO_LARGE
    if credential_in(text, line_prefix) is not None:
        return Reason.CREDENTIAL
    if automatic and undoes(deleted, text):
        return Reason.UNDOES_EDIT
    if automatic and rejected_before(text):
        return Reason.REJECTED_BEFORE
    return None


def undoes(deleted: str, text: str) -> bool:
    """Whether a text puts back what was deleted at its place: all of it, or a beginning that ends where a word ends.

    Blanks make no difference. A text that begins with the same letters but goes on with the word says something else.
    """
    gone, back = _words(deleted), _words(text)
    if len("".join(gone)) < MIN_DELETED_CHARS or not back:
        return False
    shorter = min(len(gone), len(back))
    return gone[:shorter] == back[:shorter] and len("".join(back[:shorter])) >= MIN_DELETED_CHARS


def _words(text: str) -> list[str]:
    """Words and single other signs, in order, without blanks."""
    words: list[str] = []
    within = False
    for char in text:
        word = char.isalnum() or char == "_"
        if word and within:
            words[-1] += char
        elif not char.isspace():
            words.append(char)
        within = word
    return words
