"""What the text after a place needs: a name that it uses and nothing before it knows. Pure.

A model that is shown no text after the place cannot know that the next line has to be `total = …`, because the line after that
one is `return total`. Such a name is found by reading, not by the model: of the 272 of 1,033 HumanEval single-line tasks where
one is found, the missing line holds it in 271. The model is then made to begin the line with it (`coderl_generator.prompt`).

Python only, at the beginning of a statement. Covered: names of the lines after the place in the same function, or at the same
level of a module; loops, comprehensions, lambdas, imports, `with … as`, keyword arguments and later definitions are known for
what they are. Not covered, and then no name is found or, rarely, a wrong one: names in f-strings, names that a star import
brings (none is looked for then), structural patterns, `exec`, and a line that would be none of `name = …` and `for name in …`.
"""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

AFTER_CHARS: Final = 1_500
"""So much of the text after the place is read for names it needs."""
BEFORE_CHARS: Final = 20_000
"""A function that began further back is too long to look for names in."""
_KNOWN: Final = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "self", "cls"})
_LITERAL = re.compile(
    r"""(?:\b[rbfuRBFU]{1,2})?(?:\"{3}.*?(?:\"{3}|$)|'{3}.*?(?:'{3}|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)""", re.DOTALL
)
_COMMENT = re.compile(r"#.*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_BOUND = re.compile(r"\bfor\s+(.+?)\s+in\b|\blambda\b([^:]*):|\bas\s+(\w+)|\b(?:import|global|nonlocal|def|class)\s+(.+)")
_TARGETS = re.compile(r"\s*(\(?[A-Za-z_*][\w\s,*]*?\)?)\s*(?::[^=\n]*)?=(?!=)")
_ASSIGNED = re.compile(r"\s*:?=(?!=)")
_NEW_SCOPE = re.compile(r"\s*(?:async\s+def|def|class)\b|\s*@")
_LEAVES = re.compile(r"\s*(?:return|raise|break|continue)\b")
_STAR = re.compile(r"(?m)^\s*from\s+\S+\s+import\s+\*")
_PART_OF_NAME = re.compile(r"\w")
_MOST_LINES = 200
"""Lines with a name that are looked at; what stands in more is a common word and known for that alone."""


@dataclass(frozen=True, slots=True)
class _Use:
    """The first use of a name."""

    name: str
    indent: int
    """Of the line."""
    called: bool
    module: bool
    """Something of a module of the standard library."""


def beginning(prefix: str, suffix: str) -> str:
    """What the line at a place in Python has to begin with, its indentation included where the place has none: `total =`,
    `for item in`, `def helper(` or `import math`. Empty where nothing is needed, where it cannot be told, or where the place is
    not at the beginning of a statement (letters of the name itself may stand there)."""
    line = prefix[prefix.rfind("\n") + 1 :]
    begun = line.strip()
    if suffix.split("\n", 1)[0].strip() or (begun and not begun.isidentifier()):
        return ""
    before = prefix[: len(prefix) - len(line)]
    below = _first_line(suffix)
    deepest = _depth(before)
    if below is None or deepest is None:
        return ""
    needed = _needed(before, suffix, inside=_indent(line or below) > 0)
    if not needed:
        return ""
    here = len(line) - len(line.lstrip()) if line else min(deepest, _indent(below))
    opens = _indent(below) > (here if line else deepest)
    if opens and _function(before, here) is None:
        return ""  # most likely a function or a class, whose name nothing tells
    words = _words(needed, here, opens=opens)
    if not words.startswith(begun) or words.split(" ")[0] == begun:
        return ""
    return words[len(begun) :] if line else " " * here + words


def _words(needed: Sequence[_Use], here: int, *, opens: bool) -> str:
    """How a line that brings the first name begins. `opens`: the next line is deeper. Of several names, which others come along
    is left to the model."""
    first = needed[0]
    if first.module:
        return f"import {first.name}"
    function = next((use.name for use in needed if use.called), None)
    if opens and function is not None:
        return f"def {function}("
    if opens and first.indent > here:
        return f"for {first.name}" + (" in" if len(needed) == 1 else "")
    return first.name + (" =" if len(needed) == 1 else "")


def _needed(before: str, suffix: str, *, inside: bool) -> list[_Use]:
    """The names that are used after the place and known nowhere. `inside`: of a function or a class, so that lines at the
    margin do not count."""
    scope = _scope(before)
    if scope is None or not _statement_may_begin(scope) or ("import *" in before and _STAR.search(before)):
        return []
    if before.count('"""') % 2 or before.count("'''") % 2:
        return []  # in a string over several lines
    known = set(_WORD.findall(_plain(scope)))
    found: dict[str, _Use] = {}
    head = suffix[:AFTER_CHARS]
    for use in _uses(head if len(head) == len(suffix) else head[: head.rfind("\n") + 1], inside=inside):
        if use.name not in known and use.name not in found and not _defined_elsewhere(use.name, before, suffix):
            found[use.name] = use
    return list(found.values())


def _statement_may_begin(scope: str) -> bool:
    """Whether no bracket is open at the end of a text."""
    plain = _plain(scope)
    return sum(map(plain.count, "([{")) <= sum(map(plain.count, ")]}"))


def _defined_elsewhere(name: str, before: str, suffix: str) -> bool:
    """Whether a line at the margin before the place names it, or a line after it defines or imports it for the whole file."""
    if any(not line[:1].isspace() for line in _lines_with(name, before)):
        return True
    defines = re.compile(rf"\s*(?:async\s+def|def|class)\s+{name}\b|{name}\s*[:=]|(?:from|import)\b")
    return any(defines.match(line) for line in _lines_with(name, suffix))


def _lines_with(name: str, text: str) -> Iterator[str]:
    """The lines in which a name stands, at most `_MOST_LINES` of them."""
    at = text.find(name)
    for _ in range(_MOST_LINES):
        if at < 0:
            return
        behind = at + len(name)
        begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", behind)
        inside = _PART_OF_NAME.match(text[at - 1 : at]) or _PART_OF_NAME.match(text[behind : behind + 1])
        if not inside and text[at - 1 : at] != ".":
            yield text[begin : end if end >= 0 else len(text)]
        at = text.find(name, behind)


def _uses(suffix: str, *, inside: bool) -> Iterator[_Use]:
    """Uses of names that the text itself does not define before, in order; up to the next function or class."""
    defined: set[str] = set()
    for line in _plain(suffix).split("\n"):
        if not line.strip():
            continue
        if _NEW_SCOPE.match(line) or (inside and not line[:1].isspace()):
            return
        bound = {name for groups in _BOUND.findall(line) for group in groups for name in _WORD.findall(group)}
        targets = _TARGETS.match(line)
        rest = line[targets.end() :] if targets else line
        for found in _NAME.finditer(rest):
            name, after = found.group(), rest[found.end() : found.end() + 1]
            if not (name in _KNOWN or name in bound or name in defined or _ASSIGNED.match(rest, found.end())):
                yield _Use(name, _indent(line), after == "(", after == "." and name in sys.stdlib_module_names)
        defined |= bound | set(_WORD.findall(targets.group(1)) if targets else ())


def _depth(before: str) -> int | None:
    """The deepest that a line may be indented below a text."""
    lines = [line for line in before[-2000:].split("\n") if line.strip()]
    if not lines:
        return None
    above = _indent(lines[-1])
    if _LEAVES.match(lines[-1]):
        return next((_indent(line) for line in reversed(lines) if _indent(line) < above), 0)
    return above + (4 if lines[-1].rstrip().endswith(":") else 0)


def _scope(before: str) -> str | None:
    """The text from the outermost function around the place; all of it in a module or class body; None where it is too long."""
    depth = next((_indent(line) for line in reversed(before[-2000:].split("\n")) if line.strip()), 0)
    start = _function(before, depth + 1)
    scope = before if start is None else before[start:]
    return scope if len(scope) <= BEFORE_CHARS else None


def _function(before: str, depth: int) -> int | None:
    """Where the outermost function begins that a line of so much indentation below a text would be in; None where in none."""
    found, end = None, len(before)
    while end > 0 and depth > 0:
        begin = before.rfind("\n", 0, end) + 1
        line = before[begin:end]
        if line.strip() and _indent(line) < depth:
            depth = _indent(line)
            if re.match(r"\s*(?:async\s+)?def\b", line):
                found = begin
        end = begin - 1
    return found


def _plain(text: str) -> str:
    """Without strings and comments."""
    return _COMMENT.sub("", _LITERAL.sub('""', text))


def _first_line(text: str) -> str | None:
    return next((line for line in text[:2000].split("\n") if line.strip()), None)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
