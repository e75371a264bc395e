"""The features of the gate: name, unit, meaning and where the idea comes from. Computed in `coderl_gate.features`.

A feature that cannot be computed is None and enters the models as missing. Binary features are 0.0 or 1.0. Counts enter as
ln(1 + count) where their unit says so, which linear models need and trees do not mind.

Sources, by short name: *Copilot 2022* = the contextual filter of GitHub Copilot's editor client (221 logistic weights, as
described in AISE-TUDelft/curating-code-completions); *Amazon* = aws/language-servers, `auto-trigger/` (Apache-2.0); *Cody* =
sourcegraph/cody, completion throttle and artificial delay; *Continue* = continuedev/continue, `core/autocomplete`; *NES* =
microsoft/vscode-copilot-chat, next edit suggestions; *CUPS* = Mozannar et al., Reading Between the Lines (2022), data and
code in microsoft/coderec_programming_states; *CDHF* = Mozannar et al., When to Show a Suggestion? (AAAI 2024).

What is *not* here: diagnostics, types, the other open files, the clipboard. A change of this catalogue is a new
`FEATURE_VERSION`. docs/features.md is written from it by `make docs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

FEATURE_VERSION = 2
"""Rises with every change of a feature's name, meaning or order; artifacts of another version are refused."""


class Cost(StrEnum):
    """What computing a feature takes."""

    FIELD = "field"
    LINE = "line"
    WINDOW = "window"
    TREE = "tree"
    TEXT = "text"
    PARSE = "parse"


COSTS: Mapping[Cost, str] = MappingProxyType(
    {
        Cost.FIELD: "Read off the snapshot, or counted as edits and outcomes come in.",
        Cost.LINE: "The current line and its neighbours, at most 500 characters of each.",
        Cost.WINDOW: "At most 4,000 characters before the cursor, in one pass.",
        Cost.TREE: "The syntax tree of a section of the document, parsed again only where it was edited.",
        Cost.TEXT: "The suggestion (at most 400 characters of it), its log-probs, and what `line` and `window` read.",
        Cost.PARSE: "Parses at most 2,000 characters, with and without the suggestion.",
    }
)
"""What each cost means, as docs/features.md says it; `make bench` has the milliseconds."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One number the models see."""

    name: str
    unit: str
    doc: str
    source: str = ""
    cost: Cost = Cost.LINE
    monotone: Literal[-1, 0, 1] = 0
    """Direction in which P(kept) may only move with the feature; 0 = free. A constraint for the trees."""


def _costing(cost: Cost, *features: Feature) -> tuple[Feature, ...]:
    return tuple(replace(feature, cost=cost) for feature in features)


_YES = "0 or 1"
_LOG_CHARS = "ln(1 + chars)"
_CHARACTER_CLASSES: tuple[tuple[str, str], ...] = (
    ("alnum", "a letter, digit or underscore"),
    ("digit", "a digit"),
    ("space", "white space"),
    ("open_bracket", "an opening bracket"),
    ("close_bracket", "a closing bracket"),
    ("operator", "an operator sign"),
    ("quote", "a quote"),
    ("colon", "a colon"),
    ("comma", "a comma"),
    ("dot", "a dot"),
    ("semicolon", "a semicolon"),
)

_LINE = (
    Feature("line_prefix_chars", _LOG_CHARS, "Current line before the cursor.", "Copilot 2022; Amazon"),
    Feature("line_trimmed_chars", _LOG_CHARS, "Same without trailing white space.", "Copilot 2022"),
    Feature("indent_chars", _LOG_CHARS, "Leading white space of the current line (a tab counts 4).", "CUPS"),
    Feature("line_blank", _YES, "Nothing but white space before the cursor on the line.", "CUPS; Cody"),
    Feature("line_brackets", "count", "Brackets opened minus closed on the line before the cursor, strings left out.", "ours"),
    Feature("line_has_assignment", _YES, "The line already holds an assignment sign.", "ours"),
    Feature("line_in_string", _YES, "The cursor lies in a string: by syntax, else one that began on this line.", "Cody"),
    Feature("line_in_comment", _YES, "… in a comment, likewise.", "Cody"),
    Feature(
        "in_docstring",
        _YES,
        "In a string that began on an earlier line; missing where neither window nor syntax tells.",
        "Cody",
    ),
    Feature("line_is_import", _YES, "The cursor lies in an import: by syntax, else the line begins like one.", "Cody"),
    Feature("line_repeats", _YES, "The trimmed line (4 characters or more) occurs before in the window.", "ours", Cost.WINDOW),
)
_LAST = tuple(
    Feature(f"last_{name}", _YES, f"The character before the cursor, on its line, is {what}.", "Copilot 2022; Amazon")
    for name, what in _CHARACTER_CLASSES
)
_SOLID = tuple(
    Feature(f"solid_{name}", _YES, f"The last non-blank character of the line before the cursor is {what}.", "Copilot 2022")
    for name, what in _CHARACTER_CLASSES
    if name != "space"
)
_WORD = (
    Feature("word_chars", "chars", "Length of the word that ends at the cursor (0: none).", "Tabby"),
    Feature("word_is_keyword", _YES, "The last word of the line is a keyword of common languages.", "Amazon"),
    Feature("word_is_block", _YES, "… one that opens a block (if, for, def, class …).", "Amazon"),
    Feature("word_is_value", _YES, "… one that a value follows (return, in, and, not …).", "Amazon"),
    Feature("word_repeats", "ln(1 + count)", "Earlier occurrences of the last word in the window.", "ours", Cost.WINDOW),
)
_PREVIOUS = (
    Feature("previous_line_chars", _LOG_CHARS, "Trimmed length of the line above.", "CUPS"),
    Feature("previous_line_blank", _YES, "The line above is blank.", "CUPS"),
    Feature("previous_line_opens", _YES, "The line above ends with a colon or an opening bracket.", "CUPS"),
    Feature("previous_line_comment", _YES, "The line above is a comment.", "Cody"),
    Feature("indent_change_chars", "chars", "Indentation of the current line minus that of the last non-blank line.", "ours"),
)
_AFTER = (
    Feature("rest_blank", _YES, "Nothing but white space after the cursor on the line.", "Copilot 2022 (+0.70)"),
    Feature("rest_closers", _YES, "Closing brackets, quotes, `;`, `,`, `:` at most after the cursor on it.", "Copilot 2022"),
    Feature("rest_chars", _LOG_CHARS, "Trimmed length of the rest of the line.", "Amazon"),
    Feature("suffix_chars", _LOG_CHARS, "Text after the cursor: of the document, else of the window.", "Copilot 2022"),
    Feature("next_line_deeper", _YES, "The next non-blank line is indented deeper than the current one.", "ours"),
)
_PLACE = _costing(
    Cost.FIELD,
    Feature("document_chars", _LOG_CHARS, "Length of the document.", "Copilot 2022"),
    Feature("document_lines", "ln(1 + lines)", "Lines of the document.", "Amazon"),
    Feature("line_number", "ln(1 + lines)", "Zero-based line of the cursor.", "Amazon"),
    Feature("relative_position", "share", "Offset of the cursor divided by the document's length.", "Copilot 2022 (+0.42)"),
    Feature("prefix_chars", _LOG_CHARS, "Offset of the cursor, else the length of the window before it.", "Copilot 2022"),
    Feature("language_indented", _YES, "Python and other languages whose blocks are indentation.", "Copilot 2022"),
    Feature("language_braces", _YES, "C, Java, JavaScript, Go, Rust and others with blocks in braces.", "Copilot 2022"),
    Feature("language_markup", _YES, "HTML, CSS, JSON, YAML and other data or markup.", "Copilot 2022; Cody"),
    Feature("language_prose", _YES, "Markdown, plain text, LaTeX.", "Copilot 2022 (markdown −0.65)"),
    Feature("language_shell", _YES, "Shells, makefiles, Dockerfiles.", "Copilot 2022"),
)
_RHYTHM = _costing(
    Cost.FIELD,
    Feature("invoked", _YES, "The programmer asked for the suggestion.", "RealHumanEval (2024)"),
    Feature("typing_interval", "ln(1 + ms)", "Mean gap between the last keystrokes.", "Tabby; arXiv 2511.18849"),
    Feature("since_edit", "ln(1 + ms)", "Time since the last edit.", "arXiv 2511.18842"),
    Feature("since_decision", "ln(1 + s)", "Time since the last suggestion got its outcome.", "Copilot 2022 (−0.17)"),
    Feature("session_age", "ln(1 + s)", "Age of the session.", "CUPS"),
    Feature(
        "previous_kept",
        _YES,
        "The last seen suggestion was kept; missing before the first.",
        "Copilot 2022 (+1.00)",
        monotone=1,
    ),
    Feature(
        "kept_last_5", "share", "Kept share of the last 5, shrunk to 0.3 by n/5.", "Amazon (+0.47, cold start 0.3)", monotone=1
    ),
    Feature("kept_last_10", "share", "Recency-weighted kept share of the last 10, shrunk to 0.3 by n/10.", "NES", monotone=1),
    Feature("recent_outcomes", "count", "How many recent outcomes are known (0 to 10).", "NES"),
    Feature("rejected_in_row", "count", "Rejections in a row at the end of the recent outcomes.", "Cody; NES"),
)

_SYNTAX = _costing(
    Cost.TREE,
    Feature(
        "scope_call", _YES, "The innermost construct around the cursor is a call's arguments or a parameter list.", "JetBrains"
    ),
    Feature("scope_block", _YES, "… the body of a branch, loop or `try`.", "JetBrains"),
    Feature("scope_depth", "ln(1 + count)", "Classes, functions and blocks around it.", "JetBrains"),
    Feature("scope_index", "ln(1 + count)", "Statements before it in the body, or items before it in the brackets.", "ours"),
    Feature(
        "scope_share",
        "share",
        "Part of the innermost function or class that lies before it; missing without the text after it.",
        "ours",
    ),
    Feature("line_mended", _YES, "The parser had to mend the line; missing without the text after the cursor.", "JetBrains"),
)
_ACTIVITY = _costing(
    Cost.FIELD,
    Feature("typing_spread", "ln(1 + ms)", "Standard deviation of the gaps between the last keystrokes.", "arXiv 2511.18849"),
    Feature("added_chars", _LOG_CHARS, "Typed or pasted in the last 10 seconds.", "arXiv 2511.18849"),
    Feature("deleted_chars", _LOG_CHARS, "Deleted in the last 10 seconds.", "arXiv 2511.18849"),
    Feature("deletions", "ln(1 + count)", "Edits of the last 10 seconds that only deleted.", "arXiv 2511.18849"),
    Feature("undone", "count", "Edits of the last 30 seconds that took back one just before them.", "NES; Cody"),
    Feature("edit_distance", "ln(1 + lines)", "Lines to the last edit; missing where it was in another document.", "NES"),
    Feature("since_dismissal", "ln(1 + s)", "Time since the last explicit dismissal; missing before the first.", "NES"),
    Feature("cooldown", "ln(1 + s)", "What is left of the quiet time after a dismissal.", "NES"),
)

CONTEXT_FEATURES: tuple[Feature, ...] = (
    _LINE + _LAST + _SOLID + _WORD + _PREVIOUS + _AFTER + _PLACE + _SYNTAX + _RHYTHM + _ACTIVITY
)
"""What stage 1 may see."""

SUGGESTION_FEATURES: tuple[Feature, ...] = _costing(
    Cost.TEXT,
    Feature("s_chars", _LOG_CHARS, "Length of the suggestion.", "CDHF"),
    Feature("s_lines", "ln(1 + lines)", "Lines of it that are not blank.", "CDHF"),
    Feature("s_tokens", "ln(1 + tokens)", "Tokens; missing where the generator did not tell.", "CDHF"),
    Feature("s_first_line_chars", _LOG_CHARS, "Length of its first line.", "ours"),
    Feature("s_multi_line", _YES, "More than one line that is not blank.", "CUPS (52 % kept against 32 %)"),
    Feature("s_starts_space", _YES, "Begins with a space or tab.", "ours"),
    Feature("s_starts_newline", _YES, "Begins with a line break.", "ours"),
    Feature("s_starts_closer", _YES, "Begins with a closing bracket.", "ours"),
    Feature("s_starts_word", _YES, "Begins with a letter, digit or underscore.", "CUPS"),
    Feature("s_continues_word", _YES, "Continues the word that ends at the cursor.", "ours"),
    Feature("s_ends_open", _YES, "Ends with an operator, comma or opening bracket: unfinished.", "ours"),
    Feature("s_ends_line", _YES, "After it the line ends (or the suggestion ends with a line break).", "ours"),
    Feature("s_bracket_balance", "count", "Brackets opened minus closed.", "Google (2022); JetBrains"),
    Feature("s_closes_line", _YES, "Line before the cursor and suggestion together leave no bracket open.", "Google (2022)"),
    Feature("s_overcloses", _YES, "Closes a bracket that neither it nor the line before it opened.", "Google (2022)"),
    Feature("s_open_string", _YES, "Its first line leaves a string open that the rest of the line does not close.", "ours"),
    Feature("s_duplicates_next", _YES, "One of its lines equals the next line with content.", "Copilot; Continue", monotone=-1),
    Feature("s_duplicates_previous", _YES, "The line it makes equals the last line with content.", "Continue", monotone=-1),
    Feature("s_repeats_rest", _YES, "It ends with what already follows the cursor on the line.", "Tabby", monotone=-1),
    Feature(
        "s_repetition", "share", "Share of pairs of words or signs that came before in it.", "Continue; Copilot", monotone=-1
    ),
    Feature("s_known_names", "share", "Share of its identifiers that occur in the window; missing without any.", "JetBrains"),
    Feature("s_names", "ln(1 + count)", "Distinct identifiers in it.", "ours"),
    Feature("s_comment", _YES, "It is, or begins, a comment.", "CUPS"),
    Feature("s_prints", _YES, "It prints or logs.", "CUPS"),
    Feature("s_digit_share", "share", "Share of its characters that are digits.", "Copilot 2022"),
    Feature("s_space_share", "share", "Share of its characters that are white space.", "ours"),
    Feature(
        "logprob_mean", "quantile", "Mean token log-prob among the running generator's own.", "CUPS (AUC 0.71)", monotone=1
    ),
    Feature("logprob_lowest", "quantile", "Lowest token log-prob, likewise.", "ours", monotone=1),
    Feature("logprob_first", "quantile", "First token's log-prob, likewise.", "ours", monotone=1),
    Feature("logprob_total", "quantile", "Sum of the token log-probs, likewise.", "ours", monotone=1),
    Feature("logprob_spread", "quantile", "Standard deviation of the token log-probs, likewise.", "ours"),
    Feature(
        "s_unresolved", "ln(1 + count)", "Names it uses that are no builtins and stand nowhere around it.", "Google (2022)"
    ),
    Feature("s_like_rejected", "share", "Likeness to the most alike of the last 5 that were not kept.", "NES; Amazon"),
) + _costing(
    Cost.PARSE,
    Feature(
        "s_mended", "count", "Syntax errors with it minus without it around the cursor, −3 to 3.", "Google (2022); JetBrains"
    ),
)
"""What stage 2 may see besides; `P1` too."""

P1 = Feature("p1", "probability", "Stage 1's estimate, before the suggestion existed.", "CDHF", Cost.FIELD, 1)

CONTEXT_NAMES: tuple[str, ...] = tuple(feature.name for feature in CONTEXT_FEATURES)
SUGGESTION_NAMES: tuple[str, ...] = tuple(feature.name for feature in SUGGESTION_FEATURES)
