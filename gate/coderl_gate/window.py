"""The text around the cursor as features read it: the line, its neighbours, a bounded window, never the whole document."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_store.records import Context

WINDOW_CHARS = 4_000
"""How much of the text before the cursor is looked at."""
LINE_CHARS = 500
"""How much of one line is looked at."""


@dataclass(frozen=True, slots=True)
class Before:
    """The text before the cursor, cut at the line it lies on."""

    line: str
    earlier: str
    """The window before the line, without its last line break."""
    previous: str
    content: str
    """The last line above with content; empty where the nearest lines have none."""
    docstring: str | None
    """Open triple quote, empty where none is, None where it cannot be known."""


def before_cursor(context: Context) -> Before | None:
    """The text before the cursor; None where the snapshot does not hold it."""
    if context.prefix is None:
        return None
    window = context.prefix[-WINDOW_CHARS:]
    start = window.rfind("\n") + 1
    line, earlier = window[start:][-LINE_CHARS:], window[: max(0, start - 1)]
    cut = earlier.rfind("\n")
    previous = content = earlier[cut + 1 :]
    for _ in range(3):  # at most three blank lines are skipped
        if cut < 0 or (content and not content.isspace()):
            break
        end, cut = cut, earlier.rfind("\n", 0, cut)
        content = earlier[cut + 1 : end]
    return Before(line, earlier, previous, content, _open_docstring(context, window))


def _open_docstring(context: Context, window: str) -> str | None:
    if context.language != "python":
        return ""
    if context.offset_chars is None or context.offset_chars != len(window):
        return None
    place, quote = 0, ""
    while True:
        if quote:
            place = window.find(quote, place)
        else:
            double, single = window.find('"""', place), window.find("'''", place)
            place = max(double, single) if double < 0 or single < 0 else min(double, single)
        if place < 0:
            return quote
        quote = "" if quote else window[place : place + 3]
        place += 3


def ending_word(text: str) -> str:
    """The word that `text` ends with, at most 60 characters of it."""
    end = len(text)
    start = end
    floor = max(0, end - 60)
    while start > floor and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    return text[start:end]


def after_cursor(suffix: str) -> tuple[str, str]:
    """The stripped rest of the line, and the next line with content (empty where the nearest three lines have none)."""
    end = suffix.find("\n")
    if end < 0:
        return suffix[:LINE_CHARS].strip(), ""
    rest = suffix[: min(end, LINE_CHARS)].strip()
    for _ in range(3):
        start, end = end + 1, suffix.find("\n", end + 1)
        line = suffix[start:] if end < 0 else suffix[start:end]
        if end < 0 or (line and not line.isspace()):
            return rest, "" if line.isspace() else line[:LINE_CHARS].rstrip()
    return rest, ""
