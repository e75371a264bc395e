"""What the models see of a place and of a suggestion; the names are those of `coderl_gate.catalogue`.

Pure functions of one snapshot. They read the current line, its neighbours and a bounded window, never the whole document, and
cost some tens of microseconds. What the snapshot does not hold (an imported log has no text after the cursor, a `metrics` row
has no text at all) is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log1p

from coderl_store.records import Context, Trigger

from .catalogue import (
    CONTEXT_FEATURES,
    CONTEXT_NAMES,
    FEATURE_VERSION,
    P1,
    SUGGESTION_FEATURES,
    SUGGESTION_NAMES,
    Feature,
)
from .lexical import (
    ASSIGNMENT,
    BLOCK_KEYWORDS,
    CLOSE_BRACKETS,
    IDENTIFIER,
    IMPORTS,
    KEYWORDS,
    OPEN_BRACKETS,
    OPERATORS,
    PIECE,
    PRINTS,
    QUOTES,
    VALUE_KEYWORDS,
    indent_width,
    is_comment_line,
    language_group,
    scan,
)
from .quantiles import LOGPROB_NAMES, LogprobSummary, QuantileTable

__all__ = [
    "CONTEXT_FEATURES",
    "CONTEXT_NAMES",
    "FEATURE_VERSION",
    "P1",
    "SUGGESTION_FEATURES",
    "SUGGESTION_NAMES",
    "Feature",
    "LogprobSummary",
    "context_features",
    "suggestion_features",
]

Values = dict[str, float | None]

KEPT_PRIOR = 0.3
"""Kept share assumed before anything is known of the session (Amazon's cold-start value)."""
KEPT_DECAY = 0.8
"""Weight of an outcome relative to the one after it, in `kept_last_10`."""
_WINDOW_CHARS = 4_000
_LINE_CHARS = 500
_NAMES_BEFORE_CHARS = 1_000
_NAMES_AFTER_CHARS = 300
_TEXT_CHARS = 400
_CLOSERS = ")]}\"'`;,: \t\r"


@dataclass(frozen=True, slots=True)
class _Before:
    """The text before the cursor, cut at the line it lies on."""

    line: str
    earlier: str
    """The window before the line, without its last line break."""
    previous: str
    content: str
    """The last line above with content; empty where the nearest lines have none."""
    docstring: str | None
    """Open triple quote, empty where none is, None where it cannot be known."""


def context_features(context: Context) -> Values:
    """Every feature of `CONTEXT_FEATURES`, from the snapshot alone."""
    before = _before(context)
    values: Values = dict.fromkeys(CONTEXT_NAMES)
    values["line_prefix_chars"] = log1p(context.character)
    if before is not None:
        _line_values(values, before, context)
        _neighbour_values(values, before, context)
    _after_values(values, before, context)
    _place_values(values, context)
    _rhythm_values(values, context)
    return values


def _before(context: Context) -> _Before | None:
    if context.prefix is None:
        return None
    window = context.prefix[-_WINDOW_CHARS:]
    start = window.rfind("\n") + 1
    line, earlier = window[start:][-_LINE_CHARS:], window[: max(0, start - 1)]
    cut = earlier.rfind("\n")
    previous = content = earlier[cut + 1 :]
    for _ in range(3):  # at most three blank lines are skipped
        if cut < 0 or (content and not content.isspace()):
            break
        end, cut = cut, earlier.rfind("\n", 0, cut)
        content = earlier[cut + 1 : end]
    return _Before(line, earlier, previous, content, _open_docstring(context, window))


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


def _flag(condition: bool) -> float:
    return 1.0 if condition else 0.0


def _ending_word(text: str) -> str:
    """The word that `text` ends with, at most 60 characters of it."""
    end = len(text)
    start = end
    floor = max(0, end - 60)
    while start > floor and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    return text[start:end]


def _character_values(values: Values, group: str, character: str) -> None:
    """The classes of one character; all 0 for the empty string (nothing stands there)."""
    values[f"{group}_alnum"] = _flag(character.isalnum() or character == "_")
    values[f"{group}_digit"] = _flag(character.isdigit())
    values[f"{group}_open_bracket"] = _flag(character in OPEN_BRACKETS)
    values[f"{group}_close_bracket"] = _flag(character in CLOSE_BRACKETS)
    values[f"{group}_operator"] = _flag(character in OPERATORS)
    values[f"{group}_quote"] = _flag(character in QUOTES)
    values[f"{group}_colon"] = _flag(character == ":")
    values[f"{group}_comma"] = _flag(character == ",")
    values[f"{group}_dot"] = _flag(character == ".")
    values[f"{group}_semicolon"] = _flag(character == ";")


def _line_values(values: Values, before: _Before, context: Context) -> None:
    line, trimmed = before.line, before.line.rstrip()
    stripped = trimmed.lstrip()
    state = scan(line, context.language, before.docstring or "")
    values["line_trimmed_chars"] = log1p(max(0, context.character - (len(line) - len(trimmed))))
    values["indent_chars"] = log1p(indent_width(line))
    values["line_blank"] = _flag(not stripped)
    values["line_brackets"] = float(state.depth)
    values["line_has_assignment"] = _flag(ASSIGNMENT.search(stripped) is not None)
    values["line_in_string"] = _flag(bool(state.string))
    values["line_in_comment"] = _flag(state.comment)
    values["in_docstring"] = None if before.docstring is None else _flag(bool(before.docstring))
    values["line_is_import"] = _flag(IMPORTS.match(stripped) is not None)
    values["line_repeats"] = _flag(len(stripped) >= 4 and stripped in before.earlier)

    _character_values(values, "last", line[-1:])
    values["last_space"] = _flag(line[-1:].isspace())
    _character_values(values, "solid", trimmed[-1:])

    word = _ending_word(trimmed)
    values["word_chars"] = float(len(word)) if len(trimmed) == len(line) else 0.0
    values["word_is_keyword"] = _flag(word in KEYWORDS)
    values["word_is_block"] = _flag(word in BLOCK_KEYWORDS)
    values["word_is_value"] = _flag(word in VALUE_KEYWORDS)
    values["word_repeats"] = log1p(before.earlier.count(word)) if len(word) >= 3 else 0.0


def _neighbour_values(values: Values, before: _Before, context: Context) -> None:
    previous = before.previous.strip()
    values["previous_line_chars"] = log1p(len(previous))
    values["previous_line_blank"] = _flag(not previous)
    values["previous_line_opens"] = _flag(previous[-1:] == ":" or previous[-1:] in OPEN_BRACKETS)
    values["previous_line_comment"] = _flag(is_comment_line(before.previous, context.language))
    values["indent_change_chars"] = float(indent_width(before.line) - indent_width(before.content))


def _after_values(values: Values, before: _Before | None, context: Context) -> None:
    if context.document_chars is not None and context.offset_chars is not None:
        values["suffix_chars"] = log1p(max(0, context.document_chars - context.offset_chars))
    if context.suffix is None:
        return
    if values["suffix_chars"] is None:
        values["suffix_chars"] = log1p(len(context.suffix))
    rest, following = _after(context.suffix)
    values["rest_blank"] = _flag(not rest)
    values["rest_closers"] = _flag(not rest.strip(_CLOSERS))
    values["rest_chars"] = log1p(len(rest))
    if before is not None:
        values["next_line_deeper"] = _flag(bool(following) and indent_width(following) > indent_width(before.line))


def _after(suffix: str) -> tuple[str, str]:
    """The stripped rest of the line, and the next line with content (empty where the nearest three lines have none)."""
    end = suffix.find("\n")
    if end < 0:
        return suffix[:_LINE_CHARS].strip(), ""
    rest = suffix[: min(end, _LINE_CHARS)].strip()
    for _ in range(3):
        start, end = end + 1, suffix.find("\n", end + 1)
        line = suffix[start:] if end < 0 else suffix[start:end]
        if end < 0 or (line and not line.isspace()):
            return rest, "" if line.isspace() else line[:_LINE_CHARS].rstrip()
    return rest, ""


def _place_values(values: Values, context: Context) -> None:
    chars, offset = context.document_chars, context.offset_chars
    if chars is not None:
        values["document_chars"] = log1p(chars)
    if context.document_lines is not None:
        values["document_lines"] = log1p(context.document_lines)
    values["line_number"] = log1p(context.line)
    if chars is not None and offset is not None:
        values["relative_position"] = min(1.0, offset / chars) if chars > 0 else 0.0
    if offset is not None:
        values["prefix_chars"] = log1p(offset)
    elif context.prefix is not None:
        values["prefix_chars"] = log1p(len(context.prefix))
    group = language_group(context.language)
    for name in ("indented", "braces", "markup", "prose", "shell"):
        values[f"language_{name}"] = _flag(group == name)


def _rhythm_values(values: Values, context: Context) -> None:
    values["invoked"] = _flag(context.trigger is Trigger.INVOKED)
    if context.typing_interval_ms is not None:
        values["typing_interval"] = log1p(max(0.0, context.typing_interval_ms))
    if context.since_edit_ms is not None:
        values["since_edit"] = log1p(max(0.0, context.since_edit_ms))
    if context.since_decision_ms is not None:
        values["since_decision"] = log1p(max(0.0, context.since_decision_ms) / 1_000)
    if context.session_s is not None:
        values["session_age"] = log1p(max(0.0, context.session_s))
    recent = context.recent_accepts[-10:]
    values["recent_outcomes"] = float(len(recent))
    values["previous_kept"] = _flag(recent[-1]) if recent else None
    values["kept_last_5"] = _kept_share(recent[-5:], 5, 1.0)
    values["kept_last_10"] = _kept_share(recent, 10, KEPT_DECAY)
    rejected = 0
    for kept in reversed(recent):
        if kept:
            break
        rejected += 1
    values["rejected_in_row"] = float(rejected)


def _kept_share(recent: Sequence[bool], full: int, decay: float) -> float:
    """Weighted kept share, shrunk to the prior: (n/full)·share + (1 − n/full)·prior, n ≤ full outcomes, oldest first."""
    kept = total = 0.0
    for outcome in recent:
        kept, total = decay * kept + outcome, decay * total + 1.0
    known = len(recent) / full
    return known * (kept / total) + (1.0 - known) * KEPT_PRIOR if total else KEPT_PRIOR


def suggestion_features(
    context: Context, text: str, logprobs: LogprobSummary | None = None, table: QuantileTable | None = None
) -> Values:
    """Every feature of `SUGGESTION_FEATURES`. Log-prob features are missing without `logprobs` or without `table`."""
    before = _before(context)
    values: Values = dict.fromkeys(SUGGESTION_NAMES)
    content = [line for line in text.split("\n") if line and not line.isspace()]
    values["s_chars"] = log1p(len(text))
    values["s_lines"] = log1p(len(content))
    values["s_multi_line"] = _flag(len(content) > 1)
    values["s_first_line_chars"] = log1p(len(text.partition("\n")[0]))
    values["s_digit_share"] = sum(map(str.isdigit, text)) / len(text) if text else 0.0
    values["s_space_share"] = sum(map(str.isspace, text)) / len(text) if text else 0.0
    _edge_values(values, before, context, text)
    _structure_values(values, before, context, text)
    _repetition_values(values, before, context, text, content)
    _name_values(values, context, text)
    if logprobs is not None:
        values["s_tokens"] = None if logprobs.tokens is None else log1p(logprobs.tokens)
        if table is not None:
            for name in LOGPROB_NAMES:
                values[f"logprob_{name}"] = table.quantile(name, getattr(logprobs, name))
    return values


def _edge_values(values: Values, before: _Before | None, context: Context, text: str) -> None:
    first, last = text[:1], text.rstrip()[-1:]
    starts_word = first.isalnum() or first == "_"
    values["s_starts_space"] = _flag(first in (" ", "\t"))
    values["s_starts_newline"] = _flag(first in ("\n", "\r"))
    values["s_starts_closer"] = _flag(first in CLOSE_BRACKETS)
    values["s_starts_word"] = _flag(starts_word)
    if before is not None:
        values["s_continues_word"] = _flag(starts_word and bool(_ending_word(before.line)))
    values["s_ends_open"] = _flag(last == "," or last in OPERATORS or last in OPEN_BRACKETS)
    if text.endswith("\n"):
        values["s_ends_line"] = 1.0
    elif context.suffix is not None:
        values["s_ends_line"] = _flag(not _after(context.suffix)[0])


def _structure_values(values: Values, before: _Before | None, context: Context, text: str) -> None:
    line = before.line if before is not None else ""
    state = scan(line, context.language, (before.docstring or "") if before is not None else "")
    lines = text[:_TEXT_CHARS].split("\n")
    depth = lowest = 0
    string, comment = state.string, state.comment
    for index, piece in enumerate(lines):
        after = scan(piece, context.language, string, comment)
        lowest = min(lowest, depth + after.lowest)
        depth += after.depth
        string, comment = after.string if len(after.string) == 3 else "", False
        if index == 0:
            rest = _after(context.suffix)[0] if context.suffix is not None else ""
            values["s_open_string"] = _flag(len(after.string) == 1 and after.string not in rest)
            values["s_comment"] = _flag(after.comment)
            values["s_prints"] = _flag(PRINTS.match((line + piece).lstrip()) is not None)
    values["s_bracket_balance"] = float(depth)
    if before is not None:
        values["s_closes_line"] = _flag(state.depth + depth <= 0)
        values["s_overcloses"] = _flag(max(0, state.depth) + lowest < 0)


def _repetition_values(values: Values, before: _Before | None, context: Context, text: str, content: Sequence[str]) -> None:
    line = before.line if before is not None else ""
    joined = (line + text.partition("\n")[0]).strip()
    if before is not None:
        values["s_duplicates_previous"] = _flag(bool(joined) and joined == before.content.strip())
    if context.suffix is not None:
        rest, following = _after(context.suffix)
        following = following.strip()
        values["s_repeats_rest"] = _flag(bool(rest) and text.rstrip().endswith(rest))
        repeated = joined == following or any(piece.strip() == following for piece in content)
        values["s_duplicates_next"] = _flag(bool(following) and repeated)
    pieces = PIECE.findall(text[:_TEXT_CHARS])
    pairs = len(pieces) - 1
    values["s_repetition"] = 1.0 - len(set(pairwise(pieces))) / pairs if pairs > 0 else 0.0


def _name_values(values: Values, context: Context, text: str) -> None:
    names = set(IDENTIFIER.findall(text[:_TEXT_CHARS])) - KEYWORDS
    values["s_names"] = log1p(len(names))
    if context.prefix is None or not names:
        return
    known = set(IDENTIFIER.findall(context.prefix[-_NAMES_BEFORE_CHARS:]))
    if context.suffix is not None and not names <= known:
        known.update(IDENTIFIER.findall(context.suffix[:_NAMES_AFTER_CHARS]))
    values["s_known_names"] = len(names & known) / len(names)
