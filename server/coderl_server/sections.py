"""The syntax trees of one open document, kept in step with its text by the same edits.

A document is cut into sections of about sixty lines, each from the beginning of a definition to that of another, and each
with a tree of its own. A section of Python that begins inside a class is parsed under a class statement of its own, so that its
methods are still methods.

A section is parsed when the first request falls into it, so that opening a file costs nothing and the first request in it some
milliseconds, whatever its size; from then on every edit is told to the tree, and a request re-parses only what was edited. One
tree for the whole of a large document would do neither: tree-sitter's Python grammar keeps nodes that it cannot reuse all over
the tree, so that one key in 10,000 lines costs a millisecond (benchmarks/bench_gate.py measures both).

Invariant: the sections follow each other without a gap and cover all lines.

Not covered: a section that begins with what looks like a definition inside a long comment or string is read as code until the
document is re-opened (Python's docstrings are told apart by their quotes); how deep a section's beginning lies is known as far
as the top level and one class; sections above `MAX_SECTION_CHARS` have no syntax (a minified file is one line).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from coderl_gate.grammars import one_byte_each, parser
from coderl_gate.lexical import language_group
from coderl_gate.syntax import syntax_at
from coderl_store.snapshot import Syntax

from .positions import Edit

if TYPE_CHECKING:
    from tree_sitter import Parser, Tree

SECTION_LINES = 40
"""A section ends at the first definition after so many."""
MAX_SECTION_LINES = 3_000
"""It ends here where there is none."""
MAX_SECTION_CHARS = 150_000
"""A larger section is not parsed."""

_PASSED_OVER = 10
_INDENTED_START = re.compile(r"(?: {4}|\t)?(?:(?:async )?(?:def|class) \w+|@\w)")
_HEADER = b"class _:\n"
_START = re.compile(r"[A-Za-z_@#]")


@dataclass(slots=True)
class _Section:
    lines: int
    source: bytearray = field(default_factory=bytearray)
    tree: Tree | None = None
    """None until a request falls into it."""
    edited: bool = False
    """The tree was told of edits and has to be parsed again."""
    header: bytes = b""
    """One line that the source has before the section's own; empty where it begins at the top level."""


class Sections:
    """The sections of one document. Lines are given with their terminators, as `Document` keeps them."""

    def __init__(self, language: str, lines: Sequence[str]) -> None:
        self._language = language
        self._parser: Parser | None = parser(language)
        self._sections = self._cut(lines, 0, len(lines))
        self._starts = self._count()

    def edited(self, edit: Edit, lines: Sequence[str], added: int, *, joined: bool) -> None:
        """The text was changed: `lines` are those after `edit`, `added` how many more there are.

        `joined`: a `\\r` and a `\\n` that stood on two lines became one terminator, so the edit does not tell all that changed.
        """
        starts = self._starts
        first = bisect_right(starts, max(0, edit.start_line - joined)) - 1
        last = bisect_right(starts, edit.end_line) - 1
        if first == last and not joined and self._sections[first].lines + added <= MAX_SECTION_LINES and _plain(edit):
            self._tell(self._sections[first], starts[first], edit, lines)
            if added:
                self._sections[first].lines += added
                self._starts = self._count()
            return
        count = sum(section.lines for section in self._sections[first : last + 1]) + added
        self._sections[first : last + 1] = self._cut(lines, starts[first], starts[first] + count)
        self._starts = self._count()

    def syntax(self, line: int, character: int, lines: Sequence[str]) -> Syntax | None:
        """The syntax at a place of `lines`; None where its section is too large, or the language has no grammar."""
        if self._parser is None:
            return None
        index = bisect_right(self._starts, line) - 1
        section, start = self._sections[index], self._starts[index]
        if section.tree is None:
            part = lines[start : start + section.lines]
            if sum(map(len, part)) > MAX_SECTION_CHARS:
                return None
            section.source = bytearray(section.header + one_byte_each("".join(part)))
            section.tree = self._parser.parse(section.source)
        elif section.edited:
            if len(section.source) > MAX_SECTION_CHARS:
                section.tree, section.source, section.edited = None, bytearray(), False
                return None
            section.tree = self._parser.parse(section.source, section.tree)
        section.edited = False
        offset = len(section.header) + sum(map(len, lines[start:line])) + character
        point = (line - start + bool(section.header), character)
        return syntax_at(section.tree, section.source, point, offset, self._language)

    def _count(self) -> list[int]:
        """The first line of each section."""
        return list(accumulate((section.lines for section in self._sections[:-1]), initial=0))

    def _tell(self, section: _Section, start: int, edit: Edit, lines: Sequence[str]) -> None:
        if section.tree is None:
            return
        begin = len(section.header) + sum(map(len, lines[start : edit.start_line])) + edit.start_char
        start -= bool(section.header)
        old_end, new_end = begin + len(edit.old_text), begin + len(edit.new_text)
        section.source[begin:old_end] = one_byte_each(edit.new_text)
        line, character = edit.new_end
        section.tree.edit(
            begin, old_end, new_end,
            (edit.start_line - start, edit.start_char), (edit.end_line - start, edit.end_char), (line - start, character),
        )  # fmt: skip
        section.edited = True

    def _cut(self, lines: Sequence[str], first: int, end: int) -> list[_Section]:
        """Sections without trees that cover the lines from `first` to before `end`."""
        sections, begin = [], first
        while end - begin > SECTION_LINES:
            cut = self._border(lines, begin, min(end, begin + MAX_SECTION_LINES))
            sections.append(_Section(cut - begin, header=self._header(lines[begin])))
            begin = cut
        if begin < end or not sections:
            sections.append(_Section(end - begin, header=self._header(lines[begin])))
        return sections

    def _border(self, lines: Sequence[str], begin: int, limit: int) -> int:
        """The first line of a definition from `SECTION_LINES` behind `begin` on, else `limit`.

        One between quotes is passed over as part of a docstring, unless no other is near (the quotes may be in a string).
        """
        between_quotes = limit
        indented = language_group(self._language) == "indented"
        start = _INDENTED_START if indented else _START
        for line in range(begin + SECTION_LINES, limit):
            if line - begin > _PASSED_OVER * SECTION_LINES and between_quotes < limit:
                return between_quotes
            if start.match(lines[line]) and _blank(lines[line - 1]):
                text = "".join(lines[begin:line]) if indented else ""
                if text.count('"""') % 2 == 0 and text.count("'''") % 2 == 0:
                    return line
                between_quotes = min(between_quotes, line)
        return between_quotes

    def _header(self, line: str) -> bytes:
        inside = language_group(self._language) == "indented" and line[:1] in (" ", "\t") and _INDENTED_START.match(line)
        return _HEADER if inside else b""


def _blank(line: str) -> bool:
    return not line or line.isspace()


def _plain(edit: Edit) -> bool:
    """The edit holds no `\\r` but those of whole `\\r\\n`."""
    return "\r" not in edit.new_text.replace("\r\n", "") and "\r" not in edit.old_text.replace("\r\n", "")
