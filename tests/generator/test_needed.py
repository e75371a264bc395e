"""What the text after a place needs; what the line at the place then begins with."""

from __future__ import annotations

import ast
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.needed import beginning

DEF = "def f(values, limit):\n"


@pytest.mark.parametrize(
    ("prefix", "suffix", "begins"),
    [
        (f"{DEF}    ", "\n    for value in values:\n        total += value\n    return total\n", "total ="),
        (f"{DEF}    to", "\n    for value in values:\n        total += value\n    return total\n", "tal ="),
        (DEF, "\n    return total\n", "    total ="),
        (f"{DEF}    ", "\n        print(value)\n", "for value in"),
        (f"{DEF}    ", "\n        print(index, value)\n", "for index"),
        (f"{DEF}    ", "\n    return start, end\n", "start"),
        (f"{DEF}    ", "\n        return n % 2\n    return [v for v in values if odd(v)]\n", "def odd("),
        (f"{DEF}    ", "\n    return math.sqrt(limit)\n", "import math"),
        (f"{DEF}    ", "\n        'one': 1,\n    }\n    return names[limit]\n", "names ="),
        (f"{DEF}    if limit:\n        return 1\n", "\n        yield value\n", "    for value in"),
        (f"{DEF}    if limit:\n", "\n        yield value\n", "        value ="),
        ("class A:\n    def f(self):\n        ", "\n        return result\n", "result ="),
        ("values = [1]\n", "\nprint(total)\n", "total ="),
    ],
)
def test_a_line_begins_with_the_name_that_is_needed(prefix: str, suffix: str, begins: str) -> None:
    assert beginning(prefix, suffix) == begins


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        pytest.param(f"{DEF}    ", "\n    return values[:limit]\n", id="parameters are known"),
        pytest.param(f"import os\n\n{DEF}    ", "\n    return os.sep\n", id="imports are known"),
        pytest.param(f"{DEF}    total = 0\n    ", "\n    return total\n", id="it is there already"),
        pytest.param(f"{DEF}    ", "\n    total = 0\n    return total\n", id="it comes with the next line"),
        pytest.param(f"{DEF}    ", "\n    return [x for x in values if x]\n", id="a comprehension binds it"),
        pytest.param(f"{DEF}    ", "\n    return sorted(values, key=lambda a, b=1: a)\n", id="a lambda binds it"),
        pytest.param(f"{DEF}    ", "\n    for i, (a, b) in values:\n        print(i, a, b)\n", id="a loop binds it"),
        pytest.param(f"{DEF}    ", "\n    return helper(limit)\n\n\ndef helper(x):\n    return x\n", id="it is defined below"),
        pytest.param(f"{DEF}    ", "\n\n\ndef g(other):\n    return other\n", id="another function's"),
        pytest.param(f"{DEF}    ", "\n    return limit.size\n", id="an attribute"),
        pytest.param(f"{DEF}    ", "\n    return dict(size=limit)\n", id="a keyword argument"),
        pytest.param(f"{DEF}    ", "\n    return 'total'  # total\n", id="in a string or a comment"),
        pytest.param(f"from os.path import *\n{DEF}    ", "\n    return total\n", id="a star import may bring it"),
        pytest.param(f"{DEF}    x = ", "\n    return total\n", id="not at the beginning of a statement"),
        pytest.param(f"{DEF}    ", " # here\n    return total\n", id="text behind the place"),
        pytest.param(f"{DEF}    count", "\n    return total\n", id="another word was begun"),
        pytest.param(f"{DEF}    total", "\n    return total\n", id="it is written out"),
        pytest.param(f'{DEF}    """Do it.\n\n    ', "\n    Returns nothing.\n", id="in a docstring"),
        pytest.param(f"{DEF}    go(\n        ", "\n        other,\n    )\n", id="in brackets"),
        pytest.param(f"{DEF}    ", '\n    return f"{limit}" r"x"\n', id="a string's prefix"),
        pytest.param(f"{DEF}    ", f"\n    return {'limit + ' * 190}total\n", id="cut in mid word"),
        pytest.param(f"{DEF}    ", "", id="nothing follows"),
        pytest.param("", "\nprint(total)\n", id="nothing comes before"),
    ],
)
def test_nothing_is_forced_where_nothing_is_needed(prefix: str, suffix: str) -> None:
    assert beginning(prefix, suffix) == ""


PROGRAM = """\
import sys


def mean(values):
    total = 0
    for value in values:
        total += value
    count = len(values)
    return total / count


def main(arguments):
    numbers = [float(one) for one in arguments]
    result = mean(numbers)
    print(result, file=sys.stderr)
"""


def test_of_a_whole_program_each_missing_line_is_begun_rightly_or_not_at_all() -> None:
    lines = PROGRAM.splitlines(keepends=True)
    begun = {}
    for number, line in enumerate(lines):
        if line.strip():
            prefix, suffix = "".join(lines[:number]), "\n" + "".join(lines[number + 1 :])
            begun[line.strip()] = beginning(prefix, suffix)
            assert line.startswith(begun[line.strip()]), line
    assert [line for line, begins in begun.items() if begins] == [
        "total = 0",
        "for value in values:",
        "count = len(values)",
        "numbers = [float(one) for one in arguments]",
        "result = mean(numbers)",
    ]


names = st.from_regex(r"[a-z_]{1,6}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
lines = st.lists(st.text(alphabet="abtotal =():.,'\"#\n\t[]", max_size=25), max_size=6).map("\n".join)


@given(lines, lines)
def test_any_text_is_read(before: str, after: str) -> None:
    begins = beginning(before, "\n" + after)
    assert "\n" not in begins
    assert len(begins) < 100 + len(before)


@given(names, st.integers(0, 3))
def test_a_name_alone_is_needed_wherever_it_is_new(name: str, depth: int) -> None:
    header = "".join(" " * 4 * level + f"if True:  # {level}\n" for level in range(depth))
    begins = beginning(
        "def f(argument):\n" + header.replace("if", "    if") + " " * 4 * (depth + 1), f"\n{' ' * 4 * (depth + 1)}zz_{name}()\n"
    )
    assert begins == f"zz_{name} ="
    ast.parse(f"{begins} 1")
