"""A line or a block: what the place says."""

from __future__ import annotations

import pytest

from coderl_generator.extract import Mode
from coderl_server.documents import Document, Place
from coderl_server.positions import Encoding
from coderl_server.shape import shape
from coderl_store.snapshot import Scope, Syntax


def place(text: str) -> Place:
    """The cursor stands at `|`."""
    before, after = text.split("|")
    document = Document("file:///a.py", "python", 1, before + after)
    line, character = before.count("\n"), len(before.rpartition("\n")[2])
    return document.snapshot(line, character, Encoding.UTF32, 1000, 1000)


def mode(text: str, wanted: str = "auto") -> Mode:
    return shape(place(text), wanted)


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    |",
        "def f():\n|\n",
        "if (x) {\n  |\n}",
        "x = [\n|",
        "call(\n    |\n)",
        "items.map(x =>\n  |",
        "loop do\n  |",
    ],
)
def test_a_body_that_begins_is_a_block(text: str) -> None:
    assert mode(text) is Mode.BLOCK


@pytest.mark.parametrize(
    "text",
    ["|", "x = |", "x = 1\n|", "def f():\n\n    |", "def f():\n    x|", "def f():\n    |pass", "\n\n|", "def f(): |", "   |"],
)
def test_everything_else_is_a_line(text: str) -> None:
    assert mode(text) is Mode.SINGLE_LINE


def test_a_body_that_holds_something_is_no_empty_body() -> None:
    assert mode("def f():\n    |\n    return 1\n") is Mode.SINGLE_LINE
    assert mode("if (x) {\n  |\n  y();\n}\n") is Mode.SINGLE_LINE
    assert mode("def f():\n    |\n\n\ndef g():\n    pass\n") is Mode.BLOCK


def syntax(scope: Scope, error: bool | None = False) -> Syntax:
    return Syntax(scope, depth=1, index=0, share=None, error=error)


KEPT, REFUSED, MIXED = (True, True), (False,) * 5, (False, True, True, False, True)
BODY, INNER, CALL, BETWEEN = "def f():\n    |", "f(x =>\n  |", "f(\n    |\n)", "def f():\n    a()\n    |\n    b()\n"


@pytest.mark.parametrize(
    ("text", "scope", "error", "blocks", "expected"),
    [
        (BODY, Scope.FUNCTION, False, (), Mode.BLOCK),
        (BODY, Scope.FUNCTION, True, MIXED, Mode.BLOCK),
        (BODY, Scope.FUNCTION, False, REFUSED, Mode.SINGLE_LINE),
        (BODY, Scope.FUNCTION, False, REFUSED[:4], Mode.BLOCK),
        (BODY, Scope.STRING, False, KEPT, Mode.SINGLE_LINE),
        (BODY, Scope.COMMENT, False, KEPT, Mode.SINGLE_LINE),
        (BODY, Scope.IMPORT, False, KEPT, Mode.SINGLE_LINE),
        (CALL, Scope.ARGUMENTS, False, KEPT, Mode.SINGLE_LINE),
        (CALL, Scope.PARAMETERS, False, (), Mode.SINGLE_LINE),
        (CALL, Scope.COLLECTION, False, (), Mode.BLOCK),
        (INNER, Scope.ARGUMENTS, True, (), Mode.BLOCK),
        (BETWEEN, Scope.FUNCTION, False, (), Mode.SINGLE_LINE),
        (BETWEEN, Scope.FUNCTION, False, KEPT, Mode.BLOCK),
        (BETWEEN, Scope.BLOCK, None, MIXED, Mode.BLOCK),
        (BETWEEN, Scope.FUNCTION, False, (True,), Mode.SINGLE_LINE),
        (BETWEEN, Scope.FUNCTION, False, (*REFUSED[:3], *KEPT), Mode.SINGLE_LINE),
        (BETWEEN, Scope.FUNCTION, True, KEPT, Mode.SINGLE_LINE),
        (BETWEEN, Scope.MODULE, False, KEPT, Mode.SINGLE_LINE),
        (BETWEEN, Scope.CLASS, False, KEPT, Mode.SINGLE_LINE),
        ("x = |", Scope.FUNCTION, False, KEPT, Mode.SINGLE_LINE),
    ],
)
def test_syntax_and_what_was_kept_lately_decide(
    text: str, scope: Scope, error: bool | None, blocks: tuple[bool, ...], expected: Mode
) -> None:
    assert shape(place(text), "auto", syntax(scope, error), blocks) is expected


def test_the_setting_decides_where_it_is_not_auto() -> None:
    assert mode("def f():\n    |", "line") is Mode.SINGLE_LINE
    assert mode("x = |", "block") is Mode.BLOCK
