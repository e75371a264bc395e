"""How much one suggestion may span: a line, or a block. Pure.

| the place, under the setting `auto` | mode |
| --- | --- |
| text before or behind it on its line | line |
| inside a string, a comment or an import | line |
| inside the brackets of a call or of parameters | line; a block where a body begins in them |
| a body begins and holds nothing yet | block; a line while blocks are refused |
| a blank line elsewhere in a function or a body | block while blocks are kept, else line |
| anywhere else | line |

A line is what most accepted suggestions are (Cody: 87 % of its suggestions are single-line). That longer ones are asked for
where they were just kept is Copilot's rule (`ghostText.ts`: more lines after an accept); that they are not where several in a
row were refused is Cody's (`artificial-delay.ts`: five within five minutes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coderl_generator.extract import Mode
from coderl_generator.indentation import CLOSER, indent_columns
from coderl_store.snapshot import Scope, Syntax

from .documents import Place

RECENT_BLOCKS: Final = 5
"""How many outcomes of suggestions over several lines are looked back on (Cody: five suggestions)."""
RECENT_BLOCKS_S: Final = 300.0
"""And for how long (Cody: five minutes)."""
KEPT_BLOCKS: Final = 2
"""Kept ones among them that make further blocks welcome, if they are at least half (our assumption)."""

_OPENERS = (":", "{", "(", "[", "=>", "->", "do", "then")
_BODY_OPENERS = (":", "{", "=>", "->", "do", "then")
_TEXT = frozenset({Scope.STRING, Scope.COMMENT, Scope.IMPORT})
_CALL = frozenset({Scope.ARGUMENTS, Scope.PARAMETERS})
_BODY = frozenset({Scope.FUNCTION, Scope.BLOCK})


def shape(place: Place, wanted: str, syntax: Syntax | None = None, blocks: Sequence[bool] = ()) -> Mode:
    """The mode for a place under the setting `mode`. `blocks`: whether the last suggestions over several lines were kept,
    oldest first; at most `RECENT_BLOCKS` of the last `RECENT_BLOCKS_S` seconds."""
    if wanted in ("line", "block"):
        return Mode.SINGLE_LINE if wanted == "line" else Mode.BLOCK
    if place.line_prefix.strip() or place.line_suffix.strip():
        return Mode.SINGLE_LINE
    if syntax is not None and syntax.scope in _TEXT:
        return Mode.SINGLE_LINE
    above = place.prefix.rstrip()
    directly = place.prefix[len(above) :].count("\n") == 1
    openers = _BODY_OPENERS if syntax is not None and syntax.scope in _CALL else _OPENERS
    if directly and above.endswith(openers) and _empty(above, place.suffix):
        refused = len(blocks) >= RECENT_BLOCKS and not any(blocks)
        return Mode.SINGLE_LINE if refused else Mode.BLOCK
    kept = sum(blocks) >= KEPT_BLOCKS and 2 * sum(blocks) >= len(blocks)
    in_body = syntax is not None and syntax.scope in _BODY and not syntax.error
    return Mode.BLOCK if kept and in_body else Mode.SINGLE_LINE


def _empty(above: str, suffix: str) -> bool:
    """Whether the body that `above` opens holds nothing yet: the next line with text is no deeper, or closes it."""
    below = next((line for line in suffix.splitlines()[1:] if line.strip()), "")
    head = above[above.rfind("\n") + 1 :]
    return not below or indent_columns(below) <= indent_columns(head) or CLOSER.match(below) is not None
