"""What a text defines, in each language by its own grammar, and what it imports."""

from __future__ import annotations

import pytest

from coderl_server.outline import definitions, imports

PYTHON = '''import os

LIMIT = 3


@total
class Basket(Base):
    """Holds things."""

    rate: float = 0.2

    def __init__(self, owner: str,
                 size: int = 3) -> None:
        self.owner = owner
        self.size = size
        self.things = []

    def _hidden(self) -> None:
        pass

    async def total(self) -> int:
        # Slow.
        summed = sum(self.things)
        return summed + 1


def price_of(item: str) -> int:
    found = PRICES[item]
    print(found)
    return found


def short(x):
    return x
'''


def test_python_shows_heads_and_keeps_bodies_back() -> None:
    found = {one.name: one for one in definitions("python", PYTHON)}
    assert list(found) == ["LIMIT", "Basket", "price_of", "short"]
    assert found["LIMIT"].text == "LIMIT = 3"
    assert found["price_of"].text == "def price_of(item: str) -> int: ..."
    assert found["short"].text == "def short(x):\n    return x"
    basket = found["Basket"].text
    assert basket.startswith("class Basket(Base):")
    assert "                 size: int = 3) -> None: ..." in basket
    assert "async def total(self) -> int: ..." in basket
    assert "_hidden" not in basket
    assert "self.owner" not in basket
    assert PYTHON.split("\n")[found["Basket"].line].startswith("class Basket")
    assert found["price_of"].end_line == found["price_of"].line + 3


@pytest.mark.parametrize(
    ("language", "text", "names", "shown"),
    [
        ("typescript", "export class Q {\n  go(a: string): void {\n    a;\n    b;\n  }\n}\n", {"Q"}, "go(a: string): void"),
        ("javascript", "export const g = (a) => 1;\nfunction h(b) {\n  1;\n  2;\n}\n", {"g", "h"}, "function h(b)"),
        (
            "go",
            "package a\ntype T struct {\n\tA int\n\tB int\n}\nfunc (t *T) Go(a int) error {\n\tx\n\ty\n}\n",
            {"T", "Go"},
            "A int",
        ),
        ("rust", "impl S {\n  pub fn new(a: i32) -> S {\n    x;\n    y;\n  }\n}\nconst K: i32 = 3;\n", {"new", "K"}, "-> S"),
        ("java", "class A {\n  int get(int x) {\n    a();\n    b();\n  }\n}\n", {"A"}, "int get(int x)"),
        ("c", "int f(int a, char *b)\n{\n  a;\n  return 1;\n}\n", {"f"}, "int f(int a, char *b)"),
    ],
)
def test_other_languages(language: str, text: str, names: set[str], shown: str) -> None:
    found = definitions(language, text)
    assert {one.name for one in found} == names
    assert any(shown in one.text for one in found)


def test_no_grammar_broken_code_and_no_code() -> None:
    assert definitions("klingon", PYTHON) == ()
    assert definitions("python", "") == ()
    assert [one.name for one in definitions("python", "def ok(a):\n    return a\n\ndef broken(\n")][:1] == ["ok"]


def test_imports_carry_on_over_brackets() -> None:
    found = imports("import os\nfrom shop.prices import (\n    price_of,\n    PRICES,\n)\nx = 1\nfrom a import b\r\n")
    assert [(line, names) for line, _, names in found][1] == (1, {"from", "shop", "prices", "import", "price_of", "PRICES"})
    assert [line for line, _, _ in found] == [0, 1, 6]
    assert found[2][1] == "from a import b"
