"""What the models see of a place and of a suggestion; the names are those of `coderl_gate.catalogue`.

Pure functions of one snapshot. They read the current line, its neighbours and a bounded window, never the whole document, and
cost some tens of microseconds. What the snapshot does not hold (an imported log has no text after the cursor, a `metrics` row
has no text at all) is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p

from coderl_store.records import Context, Trigger
from coderl_store.snapshot import Scope

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
    IMPORTS,
    KEYWORDS,
    OPEN_BRACKETS,
    OPERATORS,
    QUOTES,
    VALUE_KEYWORDS,
    indent_width,
    is_comment_line,
    language_group,
    scan,
)
from .quantiles import LogprobSummary
from .suggestion import suggestion_features
from .window import Before, after_cursor, before_cursor, ending_word

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
_CLOSERS = ")]}\"'`;,: \t\r"


def context_features(context: Context) -> Values:
    """Every feature of `CONTEXT_FEATURES`, from the snapshot alone."""
    before = before_cursor(context)
    values: Values = dict.fromkeys(CONTEXT_NAMES)
    values["line_prefix_chars"] = log1p(context.character)
    if before is not None:
        _line_values(values, before, context)
        _neighbour_values(values, before, context)
    _after_values(values, before, context)
    _place_values(values, context)
    _syntax_values(values, context)
    _rhythm_values(values, context)
    _activity_values(values, context)
    return values


def _flag(condition: bool) -> float:
    return 1.0 if condition else 0.0


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


def _line_values(values: Values, before: Before, context: Context) -> None:
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
    if before.docstring is not None:
        values["in_docstring"] = _flag(bool(before.docstring))
    elif context.syntax is not None:
        values["in_docstring"] = _flag(context.syntax.scope is Scope.STRING and not state.string)
    values["line_is_import"] = _flag(IMPORTS.match(stripped) is not None)
    values["line_repeats"] = _flag(len(stripped) >= 4 and stripped in before.earlier)

    _character_values(values, "last", line[-1:])
    values["last_space"] = _flag(line[-1:].isspace())
    _character_values(values, "solid", trimmed[-1:])

    word = ending_word(trimmed)
    values["word_chars"] = float(len(word)) if len(trimmed) == len(line) else 0.0
    values["word_is_keyword"] = _flag(word in KEYWORDS)
    values["word_is_block"] = _flag(word in BLOCK_KEYWORDS)
    values["word_is_value"] = _flag(word in VALUE_KEYWORDS)
    values["word_repeats"] = log1p(before.earlier.count(word)) if len(word) >= 3 else 0.0


def _neighbour_values(values: Values, before: Before, context: Context) -> None:
    previous = before.previous.strip()
    values["previous_line_chars"] = log1p(len(previous))
    values["previous_line_blank"] = _flag(not previous)
    values["previous_line_opens"] = _flag(previous[-1:] == ":" or previous[-1:] in OPEN_BRACKETS)
    values["previous_line_comment"] = _flag(is_comment_line(before.previous, context.language))
    values["indent_change_chars"] = float(indent_width(before.line) - indent_width(before.content))


def _after_values(values: Values, before: Before | None, context: Context) -> None:
    if context.document_chars is not None and context.offset_chars is not None:
        values["suffix_chars"] = log1p(max(0, context.document_chars - context.offset_chars))
    if context.suffix is None:
        return
    if values["suffix_chars"] is None:
        values["suffix_chars"] = log1p(len(context.suffix))
    rest, following = after_cursor(context.suffix)
    values["rest_blank"] = _flag(not rest)
    values["rest_closers"] = _flag(not rest.strip(_CLOSERS))
    values["rest_chars"] = log1p(len(rest))
    if before is not None:
        values["next_line_deeper"] = _flag(bool(following) and indent_width(following) > indent_width(before.line))


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


def _syntax_values(values: Values, context: Context) -> None:
    syntax = context.syntax
    if syntax is None:
        return
    if syntax.error is False or values["line_in_string"] is None:
        values["line_in_string"] = _flag(syntax.scope is Scope.STRING)
        values["line_in_comment"] = _flag(syntax.scope is Scope.COMMENT)
        values["line_is_import"] = _flag(syntax.scope is Scope.IMPORT)
    values["scope_call"] = _flag(syntax.scope in (Scope.ARGUMENTS, Scope.PARAMETERS))
    values["scope_block"] = _flag(syntax.scope is Scope.BLOCK)
    values["scope_depth"] = log1p(syntax.depth)
    values["scope_index"] = log1p(syntax.index)
    values["scope_share"] = syntax.share
    values["line_mended"] = None if syntax.error is None else _flag(syntax.error)


def _activity_values(values: Values, context: Context) -> None:
    if context.since_dismissal_ms is not None:
        values["since_dismissal"] = log1p(max(0.0, context.since_dismissal_ms) / 1_000)
    if context.cooldown_ms is not None:
        values["cooldown"] = log1p(max(0.0, context.cooldown_ms) / 1_000)
    activity = context.activity
    if activity is None:
        return
    values["typing_spread"] = None if activity.spread_ms is None else log1p(max(0.0, activity.spread_ms))
    values["added_chars"] = log1p(max(0, activity.added_chars))
    values["deleted_chars"] = log1p(max(0, activity.deleted_chars))
    values["deletions"] = log1p(max(0, activity.deletions))
    values["undone"] = float(activity.undone)
    values["edit_distance"] = None if activity.lines_away is None else log1p(max(0, activity.lines_away))


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
