"""What stage 2 sees of a suggestion; the names are those of `coderl_gate.catalogue`.

Pure functions of one snapshot, one text and its log-probs. The costliest parses a window of some thousand characters twice,
which is small beside the generation that came before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log1p
from types import MappingProxyType

from coderl_store.records import Context

from .catalogue import SUGGESTION_NAMES
from .lexical import (
    CLOSE_BRACKETS,
    IDENTIFIER,
    KEYWORDS,
    OPEN_BRACKETS,
    OPERATORS,
    PIECE,
    PRINTS,
    builtin_names,
    language_group,
    scan,
)
from .quantiles import LOGPROB_NAMES, LogprobSummary, QuantileTable
from .syntax import mended_places
from .window import WINDOW_CHARS, Before, after_cursor, before_cursor, ending_word

Values = dict[str, float | None]

_NAMES_BEFORE_CHARS = 1_000
_NAMES_AFTER_CHARS = 300
_TEXT_CHARS = 400
_PARSED_BEFORE_CHARS = 1_500
_PARSED_AFTER_CHARS = 500
_TOP_LEVEL = re.compile(r"(?m)^(?:@|(?:async )?def |class |func |fn |function |public |static )")
_LITERALS = re.compile(
    r"""\"{3}.*?(?:\"{3}|$)|'{3}.*?(?:'{3}|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`[^`]*`?""", re.DOTALL
)
_COMMENT: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {"indented": re.compile("#.*"), "shell": re.compile("#.*"), "braces": re.compile(r"//.*|/\*[^*]*(?:\*/|$)")}
)
_USED = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?!\w|\s*=(?!=))")
_DEFINED = re.compile(
    r"\b(?:def|class|for|import|as|fn|func|function|let|const|var|struct|enum|lambda)\s+"
    r"([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)"
)


def _flag(condition: bool) -> float:
    return 1.0 if condition else 0.0


def suggestion_features(
    context: Context, text: str, logprobs: LogprobSummary | None = None, table: QuantileTable | None = None
) -> Values:
    """Every feature of `SUGGESTION_FEATURES`. Log-prob features are missing without `logprobs` or without `table`."""
    before = before_cursor(context)
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
    _name_values(values, before, context, text)
    values["s_mended"] = _mended(context, text)
    if context.recent_rejections is not None:
        values["s_like_rejected"] = max((likeness(text, other) for other in context.recent_rejections), default=0.0)
    if logprobs is not None:
        values["s_tokens"] = None if logprobs.tokens is None else log1p(logprobs.tokens)
        if table is not None:
            for name in LOGPROB_NAMES:
                values[f"logprob_{name}"] = table.quantile(name, getattr(logprobs, name))
    return values


def _edge_values(values: Values, before: Before | None, context: Context, text: str) -> None:
    first, last = text[:1], text.rstrip()[-1:]
    starts_word = first.isalnum() or first == "_"
    values["s_starts_space"] = _flag(first in (" ", "\t"))
    values["s_starts_newline"] = _flag(first in ("\n", "\r"))
    values["s_starts_closer"] = _flag(first in CLOSE_BRACKETS)
    values["s_starts_word"] = _flag(starts_word)
    if before is not None:
        values["s_continues_word"] = _flag(starts_word and bool(ending_word(before.line)))
    values["s_ends_open"] = _flag(last == "," or last in OPERATORS or last in OPEN_BRACKETS)
    if text.endswith("\n"):
        values["s_ends_line"] = 1.0
    elif context.suffix is not None:
        values["s_ends_line"] = _flag(not after_cursor(context.suffix)[0])


def _structure_values(values: Values, before: Before | None, context: Context, text: str) -> None:
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
            rest = after_cursor(context.suffix)[0] if context.suffix is not None else ""
            values["s_open_string"] = _flag(len(after.string) == 1 and after.string not in rest)
            values["s_comment"] = _flag(after.comment)
            values["s_prints"] = _flag(PRINTS.match((line + piece).lstrip()) is not None)
    values["s_bracket_balance"] = float(depth)
    if before is not None:
        values["s_closes_line"] = _flag(state.depth + depth <= 0)
        values["s_overcloses"] = _flag(max(0, state.depth) + lowest < 0)


def _repetition_values(values: Values, before: Before | None, context: Context, text: str, content: Sequence[str]) -> None:
    line = before.line if before is not None else ""
    joined = (line + text.partition("\n")[0]).strip()
    if before is not None:
        values["s_duplicates_previous"] = _flag(bool(joined) and joined == before.content.strip())
    if context.suffix is not None:
        rest, following = after_cursor(context.suffix)
        following = following.strip()
        values["s_repeats_rest"] = _flag(bool(rest) and text.rstrip().endswith(rest))
        repeated = joined == following or any(piece.strip() == following for piece in content)
        values["s_duplicates_next"] = _flag(bool(following) and repeated)
    pieces = PIECE.findall(text[:_TEXT_CHARS])
    pairs = len(pieces) - 1
    values["s_repetition"] = 1.0 - len(set(pairwise(pieces))) / pairs if pairs > 0 else 0.0


def _name_values(values: Values, before: Before | None, context: Context, text: str) -> None:
    names = set(IDENTIFIER.findall(text[:_TEXT_CHARS])) - KEYWORDS
    values["s_names"] = log1p(len(names))
    if before is None or context.prefix is None:
        return
    known = set(IDENTIFIER.findall(context.prefix[-_NAMES_BEFORE_CHARS:]))
    if context.suffix is not None and not names <= known:
        known.update(IDENTIFIER.findall(context.suffix[:_NAMES_AFTER_CHARS]))
    if names:
        values["s_known_names"] = len(names & known) / len(names)
    used = used_names(ending_word(before.line), text[:_TEXT_CHARS], context.language) - known
    if used:
        known = set(IDENTIFIER.findall(context.prefix[-WINDOW_CHARS:]))
        known.update(IDENTIFIER.findall((context.suffix or "")[:WINDOW_CHARS]))
    values["s_unresolved"] = log1p(len(used - known))


def used_names(begun: str, text: str, language: str) -> set[str]:
    """Identifiers that `text` uses without defining them: no attributes, no keyword arguments, nothing in strings or comments,
    no keywords and builtins of the language. `begun` is the part of the first one that stands before the text."""
    code = _LITERALS.sub(" ", text)
    comment = _COMMENT.get(language_group(language))
    if comment is not None:
        code = comment.sub(" ", code)
    code = begun + code
    defined = {name for groups in _DEFINED.findall(code) for name in IDENTIFIER.findall(groups)}
    return set(_USED.findall(code)) - defined - KEYWORDS - builtin_names(language)


def likeness(one: str, other: str) -> float:
    """How alike two texts are, in [0, 1]: Dice's coefficient of their words and signs, with repetition (1 = the same ones)."""
    ours, theirs = Counter(PIECE.findall(one[:_TEXT_CHARS])), Counter(PIECE.findall(other[:_TEXT_CHARS]))
    total = ours.total() + theirs.total()
    return 2.0 * (ours & theirs).total() / total if total else 0.0


def _mended(context: Context, text: str) -> float | None:
    """How many more places the parser has to mend with the suggestion in a window around the cursor, from −3 to 3."""
    if context.prefix is None:
        return None
    head = context.prefix[-_PARSED_BEFORE_CHARS:]
    if len(head) < len(context.prefix):
        start = max((match.start() for match in _TOP_LEVEL.finditer(head)), default=head.find("\n") + 1)
        head = head[start:]
    tail = (context.suffix or "")[:_PARSED_AFTER_CHARS]
    if len(tail) == _PARSED_AFTER_CHARS:
        tail = tail[: tail.rfind("\n") + 1]
    without, with_it = mended_places(context.language, head + tail), mended_places(context.language, head + text + tail)
    if without is None or with_it is None:
        return None
    return float(min(3, max(-3, with_it - without)))
