"""Trees kept in step with the text: after any edits they are those that a fresh parse gives, and they cover the document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_gate.grammars import one_byte_each, parse
from coderl_server import sections as module
from coderl_server.documents import Change, Document
from coderl_server.positions import Encoding
from coderl_store.snapshot import Scope, Syntax

PIECES = [
    "def f(x):\n",
    "    return ",
    "x",
    "\n",
    '"""',
    "(",
    ")",
    "é",
    "😀",
    "\r\n",
    "\r",
    "# a\n",
    "class A:\n",
    "\tif x:\n",
    "}",
    "{",
]
code = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
places = st.integers(0, 40)
changes = st.tuples(places, places, places, places, code | st.sampled_from(PIECES))


def in_step(document: Document) -> None:
    """What every parsed section holds is what the text says, and what a fresh parse makes of it."""
    known: Any = document._sections
    line = 0
    for section in known._sections:
        text = "".join(document._lines[line : line + section.lines])
        line += section.lines
        if section.tree is None:
            continue
        source = section.header + one_byte_each(text)
        assert bytes(section.source) == source
        fresh = parse(document.language, source.decode())
        assert fresh is not None
        assert not section.edited
        if not fresh.root_node.has_error:  # how broken code is mended may depend on the way there
            assert str(section.tree.root_node) == str(fresh.root_node)
    assert line == document.line_count


@settings(max_examples=150, deadline=None)
@given(code, st.lists(changes, max_size=8), st.sampled_from(["python", "javascript", "c"]), st.sampled_from([2, 400]))
def test_after_any_edits_the_trees_are_those_of_the_text(
    text: str, edits: list[tuple[int, int, int, int, str]], language: str, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SECTION_LINES", size)
        patch.setattr(module, "MAX_SECTION_LINES", 8 * size)
        document = Document("file:///a", language, 1, text)
        document.syntax(0, 0)
        for start_line, start, end_line, end, new in edits:
            document.apply([Change((start_line, start, end_line, end), new)], 2, Encoding.UTF32)
            assert isinstance(document.syntax(start_line, start), Syntax)
        for line in range(document.line_count):
            document.syntax(line, 0)
        in_step(document)


METHODS = "class A:\n    x = 1\n\n" + "".join(
    f"    def f{number}(self, a):\n        if a:\n            return b\n        return a\n\n" for number in range(200)
)


def test_a_section_that_begins_in_a_class_knows_it() -> None:
    document = Document("file:///a", "python", 1, METHODS)
    whole, near = document.syntax(5, 16), document.syntax(5 + 5 * 180, 16)
    known: Any = document._sections
    assert sum(bool(section.header) for section in known._sections) >= 3
    for syntax in (whole, near):
        assert syntax is not None
        assert (syntax.scope, syntax.depth, syntax.error) == (Scope.BLOCK, 3, False)
    document.apply([Change((902, 0, 902, 0), "    y = 2\n")], 2, Encoding.UTF16)
    assert document.syntax(902, 4) is not None
    in_step(document)


LONG = "".join(f"def f{number}(a, b):\n    if a:\n        return b\n    return a\n\n\n" for number in range(300))


def test_a_long_document_is_parsed_where_it_is_looked_at_only() -> None:
    document = Document("file:///a", "python", 1, LONG)
    syntax = document.syntax(1202, 15)
    assert syntax is not None
    assert (syntax.scope, syntax.depth, syntax.error) == (Scope.BLOCK, 2, False)
    known: Any = document._sections
    parsed = [section.tree is not None for section in known._sections]
    assert len(parsed) > 3
    assert sum(parsed) == 1
    assert all(section.lines <= module.SECTION_LINES + 6 for section in known._sections)


def test_a_definition_in_a_docstring_begins_no_section() -> None:
    example = '"""Text.\n' + "\ndef f(x):\n    return x\n" * 100 + '"""\n'
    document = Document("file:///a", "python", 1, example + "\n" + LONG)
    inside = document.syntax(200, 8)
    assert inside is not None
    assert inside.scope is Scope.STRING
    behind = document.syntax(303 + 1202, 15)
    assert behind is not None
    assert (behind.scope, behind.depth) == (Scope.BLOCK, 2)
    in_step(document)


def test_an_edit_is_seen_and_only_its_section_is_parsed_again() -> None:
    document = Document("file:///a", "python", 1, LONG)
    document.syntax(2, 0)
    document.syntax(1202, 0)
    known: Any = document._sections
    trees = [section.tree for section in known._sections]
    document.apply([Change((1202, 8, 1202, 8), "print(b, c) or ")], 2, Encoding.UTF16)
    syntax = document.syntax(1202, 17)
    assert syntax is not None
    assert (syntax.scope, syntax.index) == (Scope.ARGUMENTS, 1)
    changed = [section.tree is not tree for section, tree in zip(known._sections, trees, strict=True)]
    assert sum(changed) == 1
    in_step(document)


def test_an_edit_over_several_sections_makes_new_ones() -> None:
    document = Document("file:///a", "python", 1, LONG)
    for line in range(0, document.line_count, 50):
        document.syntax(line, 0)
    document.apply([Change((100, 0, 1500, 0), "x = [\n")], 2, Encoding.UTF16)
    syntax = document.syntax(101, 0)
    assert syntax is not None
    assert syntax.scope is Scope.COLLECTION
    in_step(document)


def test_what_cannot_be_known_is_none() -> None:
    assert Document("file:///a", "klingon", 1, "x").syntax(0, 1) is None
    assert Document("file:///a", "javascript", 1, "x = 1;" * 30_000).syntax(0, 1) is None  # one huge line
    dropped = Document("file:///a", "python", 1, "x" * 100, max_chars=10)
    assert dropped.syntax(0, 1) is None


def test_a_section_that_grows_too_large_is_given_up_and_comes_back() -> None:
    document = Document("file:///a", "javascript", 1, "f(1);")
    assert document.syntax(0, 3) is not None
    document.apply([Change((0, 5, 0, 5), "x = 1;" * 30_000)], 2, Encoding.UTF16)
    assert document.syntax(0, 3) is None
    document.apply([Change((0, 5, 0, 5 + 6 * 30_000), "")], 3, Encoding.UTF16)
    syntax = document.syntax(0, 3)
    assert syntax is not None
    assert syntax.scope is Scope.ARGUMENTS


def test_a_full_text_change_starts_anew() -> None:
    document = Document("file:///a", "python", 1, "f(1)")
    document.syntax(0, 2)
    document.apply([Change(None, "# note")], 2, Encoding.UTF16)
    syntax = document.syntax(0, 6)
    assert syntax is not None
    assert syntax.scope is Scope.COMMENT
