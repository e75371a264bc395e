"""How much one suggestion may span: a line, or a block. Pure."""

from __future__ import annotations

from coderl_generator.extract import Mode

from .documents import Place

_OPENERS = (":", "{", "(", "[", "=>", "->", "do", "then")


def shape(place: Place, wanted: str) -> Mode:
    """The mode for a place under the setting `mode`.

    `auto` asks for a block only where a body begins: an empty line right after one that opens something, with nothing behind
    the cursor. A line is what most accepted suggestions are (Cody: 87 % of its suggestions are single-line).
    """
    if wanted == "line":
        return Mode.SINGLE_LINE
    if wanted == "block":
        return Mode.BLOCK
    if place.line_prefix.strip() or place.line_suffix.strip():
        return Mode.SINGLE_LINE
    above = place.prefix.rstrip()
    opened = above.endswith(_OPENERS) and above != ""
    directly = place.prefix[len(above) :].count("\n") == 1
    return Mode.BLOCK if opened and directly else Mode.SINGLE_LINE
