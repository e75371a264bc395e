"""A line or a block: what the place says."""

from __future__ import annotations

import pytest

from coderl_generator.extract import Mode
from coderl_server.documents import Document
from coderl_server.positions import Encoding
from coderl_server.shape import shape


def mode(text: str, wanted: str = "auto") -> Mode:
    """The cursor stands at `|`."""
    before, after = text.split("|")
    document = Document("file:///a.py", "python", 1, before + after)
    line, character = before.count("\n"), len(before.rpartition("\n")[2])
    return shape(document.snapshot(line, character, Encoding.UTF32, 1000, 1000), wanted)


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


def test_the_setting_decides_where_it_is_not_auto() -> None:
    assert mode("def f():\n    |", "line") is Mode.SINGLE_LINE
    assert mode("x = |", "block") is Mode.BLOCK
