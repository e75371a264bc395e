"""What a place means in a syntax tree, the same words for every language, also where the code is not finished."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate import grammars
from coderl_gate.grammars import LANGUAGES, grammar, one_byte_each, parse
from coderl_gate.syntax import PREFIX_CHARS, mended_places, syntax_at, syntax_before
from coderl_store.snapshot import Scope, Syntax


def at(marked: str, language: str = "python") -> Syntax:
    """The syntax where `|` stands in a whole document."""
    before, _, after = marked.partition("|")
    source, tree = one_byte_each(before + after), parse(language, before + after)
    assert tree is not None
    point = before.count("\n"), len(before) - before.rfind("\n") - 1
    return syntax_at(tree, source, point, len(before), language)


@pytest.mark.parametrize(
    ("language", "marked", "scope", "depth", "index"),
    [
        ("python", "import os\nx = foo(a, b|, c)\n", Scope.ARGUMENTS, 0, 1),
        ("python", "x = foo(a, |", Scope.ARGUMENTS, 0, 1),
        ("python", "x = foo(a, |\ndef g():\n    pass\n", Scope.ARGUMENTS, 0, 1),
        ("python", "x = foo(1)|", Scope.MODULE, 0, 0),
        ("python", "def f(a, |", Scope.PARAMETERS, 0, 1),
        ("python", "def f(a, |b):\n    pass\n", Scope.PARAMETERS, 0, 1),
        ("python", "def f(a):\n    x = 1\n    |", Scope.FUNCTION, 1, 1),
        ("python", "def f(a):\n    x = 1\n|", Scope.MODULE, 0, 1),
        ("python", "def f(a):\n    |", Scope.FUNCTION, 1, 0),
        ("python", "def f():\n    return |", Scope.FUNCTION, 1, 0),
        ("python", "class A:\n    def f(self):\n        if x:\n            y\n            |\n", Scope.BLOCK, 3, 1),
        ("python", "class A:\n    def f(self):\n        if x:\n            y\n        |\n", Scope.FUNCTION, 2, 1),
        ("python", "class A:\n    x = {|\n    def f(self):\n        pass\n", Scope.COLLECTION, 1, 0),
        ("python", "x = [1, 2, |", Scope.COLLECTION, 0, 2),
        ("python", "x = [1, 2|]", Scope.COLLECTION, 0, 1),
        ("python", "x = 'abc|'\n", Scope.STRING, 0, 0),
        ("python", "x = 'abc'|\n", Scope.MODULE, 0, 0),
        ("python", 'def f():\n    """doc |\n    more"""\n    pass\n', Scope.STRING, 1, 0),
        ("python", "# hello |", Scope.COMMENT, 0, 0),
        ("python", "# hello\n|", Scope.MODULE, 0, 1),
        ("python", "from os import |", Scope.IMPORT, 0, 0),
        ("python", "from os import pa|\n", Scope.IMPORT, 0, 0),
        ("python", "import os\n|", Scope.MODULE, 0, 1),
        ("python", "|", Scope.MODULE, 0, 0),
        ("javascript", "function f(a) {\n  if (a) {\n    g(1, |\n  }\n}\n", Scope.ARGUMENTS, 2, 1),
        ("javascript", "function f(a) {\n  |\n}\n", Scope.FUNCTION, 1, 0),
        ("javascript", "function f(a) {\n}\n|\n", Scope.MODULE, 0, 1),
        ("javascript", "const x = `a ${b|} c`", Scope.COLLECTION, 0, 0),
        ("javascript", "import {a|} from 'b'", Scope.IMPORT, 0, 0),
        ("javascriptreact", "const a = <b c={d(|)} />", Scope.ARGUMENTS, 0, 0),
        ("typescript", "interface A { b: str|ing }", Scope.CLASS, 1, 0),
        ("typescriptreact", "const a = <b c={d(|)} />", Scope.ARGUMENTS, 0, 0),
        ("c", "int main() {\n  for (;;) {\n    |\n  }\n}\n", Scope.BLOCK, 2, 0),
        ("c", "#include <std|io.h>\n", Scope.IMPORT, 0, 0),
        ("cpp", "class A { void f() { g(|); } };", Scope.ARGUMENTS, 2, 0),
        ("csharp", "class A { void F() { G(|); } }", Scope.ARGUMENTS, 2, 0),
        ("java", "class A {\n  void f() {\n    g(|);\n  }\n}\n", Scope.ARGUMENTS, 2, 0),
        ("go", "package main\nfunc f(a int|) {}\n", Scope.PARAMETERS, 1, 0),
        ("rust", "impl A {\n  fn f(&self) {\n    |\n  }\n}\n", Scope.FUNCTION, 2, 0),
        ("ruby", "class A\n  def f\n    |\n  end\nend\n", Scope.FUNCTION, 2, 0),
        ("php", "<?php\nfunction f() {\n  $x = [1, |];\n}\n", Scope.COLLECTION, 1, 1),
    ],
)
def test_the_scope_of_a_place(language: str, marked: str, scope: Scope, depth: int, index: int) -> None:
    found = at(marked, language)
    assert (found.scope, found.depth, found.index) == (scope, depth, index)


@pytest.mark.parametrize(
    ("before", "scope", "depth"),
    [
        ("x = foo(a, ", Scope.ARGUMENTS, 0),
        ("def f(a):\n    ", Scope.FUNCTION, 1),
        ("class A:\n    def f(self):\n        return self.", Scope.FUNCTION, 2),
        ("if x:\n    y = {1: ", Scope.COLLECTION, 1),
        ("import ", Scope.IMPORT, 0),
        ("def f():\n    pass\n\n\n", Scope.MODULE, 0),
    ],
)
def test_with_the_text_before_alone_the_rest_is_missing(before: str, scope: Scope, depth: int) -> None:
    found = syntax_before("python", before)
    assert found is not None
    assert (found.scope, found.depth, found.share, found.error) == (scope, depth, None, None)


def test_position_in_a_function_and_a_mended_line() -> None:
    assert at("def f():\n    a\n    |b\n    c\n    d\n").share == pytest.approx(19 / 32)
    assert at("x = 1\n|").share is None
    assert at("a = 1\nb = (|\nc = 3\n").error is True
    assert at("a = 1\nb = (2)|\nc = )\n").error is False


def test_statements_before_a_place_are_counted() -> None:
    assert at("a = 1\nb = 2\n|c = 3\n").index == 2
    assert at("def f():\n    a = 1\n    b = 2\n    c = g(1) + |3\n").index == 2


def test_only_the_end_of_a_long_text_is_parsed() -> None:
    long = "x = (\n" + "a = 1\n" * PREFIX_CHARS + "f("
    assert syntax_before("python", long) == syntax_before("python", long[-PREFIX_CHARS // 2 :].partition("\n")[2])


def test_mended_places_are_counted() -> None:
    assert mended_places("python", "x = f(1)\n") == 0
    assert (mended_places("python", "x = f((1)\ny = )\n") or 0) > 0
    assert mended_places("klingon", "x") is None


code = st.text(alphabet="ab1 \t\n\r(){}[]\"'`#/*=:,.;é😀", max_size=120) | st.text(max_size=60)


@given(code, code, st.sampled_from([*LANGUAGES, "klingon"]))
def test_any_text_has_a_syntax_where_there_is_a_grammar(before: str, after: str, language: str) -> None:
    found = syntax_before(language, before)
    assert (found is None) == (language == "klingon")
    tree = parse(language, before + after)
    if tree is None:
        return
    source = one_byte_each(before + after)
    assert len(source) == len(before + after)
    row, column = source.count(b"\n", 0, len(before)), len(before) - source.rfind(b"\n", 0, len(before)) - 1
    whole = syntax_at(tree, source, (row, column), len(before), language)
    assert whole.depth >= 0
    assert whole.index >= 0
    assert whole.share is None or 0.0 <= whole.share <= 1.0
    assert whole.error is not None


@given(st.text())
def test_one_byte_stands_for_each_character(text: str) -> None:
    source = one_byte_each(text)
    assert len(source) == len(text)
    assert source.count(b"\n") == text.count("\n") + text.count("\r") - text.count("\r\n")
    assert [chr(byte) for byte, sign in zip(source, text, strict=True) if sign.isascii() and sign != "\r"] == [
        sign for sign in text if sign.isascii() and sign != "\r"
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_listed_language_has_its_grammar_here(language: str) -> None:
    assert grammar(language) is not None


def test_a_grammar_that_is_not_installed_is_missing_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "_WHEELS", {"nowhere": ("tree_sitter_nowhere", "language")})
    assert grammar("nowhere") is None
    assert syntax_before("nowhere", "x = (") is None


def test_grammars_are_imported_when_they_are_needed() -> None:
    code = (
        "import sys, coderl_gate, coderl_server.service; "
        "print(sorted(m for m in sys.modules if m.startswith('tree_sitter'))); "
        "from coderl_gate.grammars import grammar; grammar('go'); "
        "print(sorted(m for m in sys.modules if m.startswith('tree_sitter') and '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['tree_sitter', 'tree_sitter_go']"]
