"""How deep lines of code lie: reading it, and repairing it where a model got it wrong. Pure.

What is repaired, always the blanks at line beginnings and nothing else:

1. blanks where the document has tabs, or tabs where it has blanks;
2. a body as deep as the line that opens it, or less: the model counted from the place, not from the line's beginning;
3. a first line deeper than the place and the line above ask for; the lines below it move with it.

Nothing is touched where that is not certain: inside brackets, strings and comments, after an unfinished line, in languages
whose layout is not known here, where a line's blanks are mixed.

After Tabby's `normalizeIndentation.ts` and `formatIndentation.ts` (`TabbyML/tabby`), which look at the place's line alone.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from coderl_generator.prompt import Place

TAB_COLUMNS: Final = 4
_HASH_COMMENTS = frozenset(
    {"python", "yaml", "ruby", "shellscript", "perl", "r", "elixir", "toml", "makefile", "nim", "gdscript"}
)
"""Editor language ids whose comments begin with `#`; the others are taken to use `//`."""
_SEMICOLONS = frozenset({"c", "cpp", "csharp", "java", "rust", "php"})
"""Languages whose statements end in a semicolon or a brace: a line that ends in neither goes on below."""
_BRACES = _SEMICOLONS | {"javascript", "javascriptreact", "typescript", "typescriptreact", "go", "kotlin", "swift", "dart"}
_FREE_LAYOUT = frozenset({"makefile", "markdown", "plaintext", "yaml", "haskell", "fsharp", "csv", "tsv"})
"""Languages where blanks at a line's beginning mean something that is not known here."""

CLOSER = re.compile(r"\s*(?:[)\]}]|</|(?:end|fi|done|esac)\s*;?\s*$)")
"""A line that closes a block."""
CONTINUER = re.compile(r"\s*(?:[)\]}]|(?:else|elif|elsif|except|finally|catch|case|when|rescue)\b)")
"""A line that goes on with the construct at whose depth it lies."""
_UNFINISHED = re.compile(r"(?:[,\\+\-*/%=<>&|^.?(\[]|\b(?:and|or|not|in|is|if|else|return))$")
_GOES_ON = re.compile(r"[.?:&|+\-*/=<>,)\]}]")
"""How a line begins that goes on with the one above."""
_UNBRACED = re.compile(r"\s*(?:\}\s*)?(?:if|for|while|else)\b[^{;]*$")
_WIDTHS = (4, 2, 8, 3)
_LOOK_BACK_CHARS: Final = 6000
_LOOK_AHEAD_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Style:
    """What a document indents with."""

    tabs: bool
    width: int
    """Blanks per level; with tabs, columns per tab."""


def indent_columns(line: str) -> int:
    """Columns of the blanks a line begins with; a tab goes to the next multiple of 4."""
    columns = 0
    for char in line:
        if char == " ":
            columns += 1
        elif char == "\t":
            columns += TAB_COLUMNS - columns % TAB_COLUMNS
        else:
            break
    return columns


def opens(line: str, language: str) -> bool:
    """Whether a line ends in something that opens a body or a bracket."""
    return code_of(line, language).endswith((":", "{", "(", "[", " then", " do"))


def code_of(line: str, language: str) -> str:
    """A line without the comment and the blanks at its end. Comment signs in strings count (not covered)."""
    return line.split("#" if language in _HASH_COMMENTS else "//", 1)[0].rstrip()


def shortfall(head: str, following: str, language: str) -> int:
    """Columns by which `following`, the first line with text below `head`, is not deep enough to be its body; else 0.

    Only for a body that was written as if its head stood at the left margin, so that what it lacks is the head's own
    indentation. A line at the margin itself is none: it may be a directive, or the end of everything.
    """
    floor, here = indent_columns(head), indent_columns(following)
    code = code_of(head, language)
    if not 0 < here <= floor or not code.endswith((":", "{", " then", " do")):
        return 0
    if CLOSER.match(following) or CONTINUER.match(following):
        return 0
    if code.endswith("{") and following.rstrip().endswith(":"):
        return 0  # a label
    return floor


def repaired(text: str, place: Place) -> str:
    """`text` with its lines as deep as the place and the document ask for (see the module)."""
    if place.language in _FREE_LAYOUT:
        return text
    lines = text.split("\n")
    style = style_of(place)
    if style is not None:
        lines = _restyled(lines, place.line_before, style, place.language)
    lines = _deepened(lines, place)
    return "\n".join(_lifted(lines, place, style))


def moved(position: int, before: str, after: str) -> int:
    """Where a position of `before` lies in `after`, which is the same but for the blanks at line beginnings."""
    position = min(position, len(before))
    line = before.count("\n", 0, position)
    old, new = before.split("\n"), after.split("\n")
    column = position - sum(len(one) + 1 for one in old[:line])
    behind = column - _blanks(old[line])
    start = sum(len(one) + 1 for one in new[:line])
    return start + (_blanks(new[line]) + behind if behind >= 0 else min(column, _blanks(new[line])))


def style_of(place: Place) -> Style | None:
    """What the document indents with around a place; None where it does not, or with both."""
    lines = [*place.prefix[-_LOOK_BACK_CHARS:].split("\n"), *place.suffix[:_LOOK_AHEAD_CHARS].split("\n")[1:]]
    tabs = sum(line.startswith("\t") for line in lines)
    blanks = [line for line in lines if line.startswith("  ")]
    if tabs and not blanks:
        return Style(True, TAB_COLUMNS)
    if tabs or not blanks:
        return None
    depths = [indent_columns(line) for line in lines if line.strip()]
    steps = Counter(here - above for above, here in pairwise(depths) if here - above in _WIDTHS)
    return Style(False, min(steps, key=lambda step: (-steps[step], step)) if steps else TAB_COLUMNS)


def _blanks(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _restyled(lines: list[str], line_before: str, style: Style, language: str) -> list[str]:
    """Tabs for blanks or blanks for tabs; as they were where that cannot be told."""
    heads = [line[: _blanks(line)] for line in lines]
    if line_before.strip():
        heads[0] = ""  # blanks inside a line are no indentation
    if not style.tabs:
        width = style.width
        return [
            " " * width * head.count("\t") + line[len(head) :] if head and not head.strip("\t") else line
            for head, line in zip(heads, lines, strict=True)
        ]
    counts = [len(head) for head, line in zip(heads, lines, strict=True) if head and not head.strip(" ") and line.strip()]
    level = indent_columns(line_before) // TAB_COLUMNS
    body = next((index for index, line in enumerate(lines) if index and line.strip()), None)
    width = TAB_COLUMNS
    if body is not None and heads[body] and not heads[body].strip(" "):
        deeper = level + opens(line_before + lines[0], language)
        width = next((one for one in _WIDTHS if len(heads[body]) == one * deeper), 0)
    if not width or any(count % width for count in counts):
        return lines
    return [
        "\t" * (len(head) // width) + line[len(head) :] if head and not head.strip(" ") else line
        for head, line in zip(heads, lines, strict=True)
    ]


def _deepened(lines: list[str], place: Place) -> list[str]:
    """The body below a first line that opens one, as deep as that line and more."""
    body = next((line for line in lines[1:] if line.strip()), None)
    head = place.line_before + lines[0]
    if body is None or not lines[0].strip() or (lines[0][:1] in (" ", "\t") and not place.line_before.strip()):
        return lines
    if not shortfall(head, body, place.language):
        return lines
    indent = head[: _blanks(head)]
    return [lines[0], *(indent + line if line.strip() else line for line in lines[1:])]


def _lifted(lines: list[str], place: Place, style: Style | None) -> list[str]:
    """The lines without what the first is deeper than it should be."""
    before, first = place.line_before, lines[0]
    if before.strip() or not first.strip() or not _blanks(first):
        return lines
    expected = _expected(place, first.lstrip(), TAB_COLUMNS if style is None else style.width)
    if expected is None:
        return lines
    excess = indent_columns(before + first) - max(expected, indent_columns(before))
    if excess <= 0:
        return lines
    lifted = [_shallower(first, excess, before), *(_shallower(line, excess) for line in lines[1:])]
    whole = [line for line in lifted if line is not None]
    return whole if len(whole) == len(lines) else lines


def _shallower(line: str, columns: int, before: str = "") -> str | None:
    """A line so many columns to the left; None where its blanks do not allow that."""
    if not line.strip():
        return line
    wanted = indent_columns(before + line) - columns
    for kept in range(_blanks(line), -1, -1):
        shorter = line[:kept] + line.lstrip(" \t")
        if indent_columns(before + shorter) == wanted:
            return shorter
    return None


def _expected(place: Place, first: str, width: int) -> int | None:
    """The column at which a new line belongs at a place; None where that is a matter of taste."""
    language = place.language
    if language != "python" and language not in _BRACES:
        return None
    above_place = place.prefix[: len(place.prefix) - len(place.line_before)][-_LOOK_BACK_CHARS:]
    above = next((line for line in reversed(above_place.splitlines()) if line.strip()), "")
    code = code_of(above, language)
    if _inside(above_place, language) or (language != "python" and _GOES_ON.match(first)):
        return None
    if code.endswith((":", "{")):
        return indent_columns(above) + width
    if code and (_UNFINISHED.search(code) or (language in _BRACES and _UNBRACED.match(code))):
        return None
    if code and language in _SEMICOLONS and not code.endswith((";", "}", "*/")) and not code.lstrip().startswith(("@", "#")):
        return None
    return indent_columns(above)


def _inside(text: str, language: str) -> bool:
    """Whether the end of a text may lie in a round or square bracket, a string of several lines, or a comment."""
    if language == "python":
        if text.count('"""') % 2 or text.count("'''") % 2:
            return True
    elif text.rfind("/*") > text.rfind("*/") or text.count("`") % 2:
        return True
    depth = 0
    for char in text:
        if char in "([":
            depth += 1
        elif char in ")]":
            depth = max(0, depth - 1)
    return depth > 0
