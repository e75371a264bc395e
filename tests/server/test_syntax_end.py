"""Where a statement or body is complete by its syntax tree, and that decoding stops there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.extract import Mode
from coderl_generator.scripted import split
from coderl_generator.stop_rules import Reason, StopRule
from coderl_server.documents import Document
from coderl_server.positions import Encoding
from coderl_server.syntax_end import TAIL_CHARS, end_rules


def rules(language: str, place: str, mode: Mode = Mode.BLOCK) -> Sequence[StopRule]:
    before, after = place.split("▮")
    document = Document("file:///a", language, 1, before + after)
    line, character = before.count("\n"), len(before.rpartition("\n")[2])
    return end_rules(document.snapshot(line, character, Encoding.UTF32, 6000, 2000), mode)


def cut(language: str, place: str, text: str) -> str | None:
    """The text up to the first cut, asked token by token as a stream would."""
    (rule,) = rules(language, place)
    written = ""
    for piece in split(text):
        written += piece
        at = rule.cut(written)
        if at is not None:
            assert written[at:].startswith("\n")
            assert "\n" not in written[at + 1 :], "seen a token late"
            return written[:at]
    return None


@pytest.mark.parametrize(
    ("language", "place", "text", "complete"),
    [
        # a body that its last statement leaves
        (
            "python",
            "def f(x):\n    ▮\n",
            "if x:\n        return 1\n    return 2\n    y()\n",
            "if x:\n        return 1\n    return 2",
        ),
        ("python", "def f(x):\n    if x:\n        ▮\n", "return 1\n    return 2\n", "return 1"),
        ("python", "for a in b:\n    ▮\n", "if a:\n        break\n    go(a)\n", None),
        ("python", "def f():\n    ▮\n", 'return """\nflush left\n"""\n    more()\n', 'return """\nflush left\n"""'),
        (
            "python",
            "def f():\n    try:\n        ▮\n",
            "return g()\n    except E:\n        raise\n    h()\n",
            "return g()\n    except E:\n        raise",
        ),
        # a body that its bracket or word closes
        ("javascript", "function f(x) {\n  ▮", "if (x) {\n    g();\n  }\n}\nh();\n", "if (x) {\n    g();\n  }\n}"),
        ("typescript", "items.map((x) => {\n  ▮", "return x;\n});\ng();\n", "return x;\n});"),
        ("go", "func f() {\n\t▮", "g()\n}\n\nfunc h() {\n", "g()\n}"),
        ("rust", "fn f() -> i32 {\n    ▮", "let x = 1;\n    x\n}\n\nfn g() {\n", "let x = 1;\n    x\n}"),
        ("c", "int f(int a) {\n    for (;;) {\n        ▮", "g();\n    }\n    return 1;\n}\n", "g();\n    }"),
        ("csharp", "class A {\n    int F() {\n        ▮", "return 1;\n    }\n    int G() {\n", "return 1;\n    }"),
        ("ruby", "def f(x)\n  ▮", "x + 1\nend\n\ndef g\n", "x + 1\nend"),
        ("php", "<?php\nfunction f($x) {\n    ▮", "return $x;\n}\nfunction g() {\n", "return $x;\n}"),
        # one that is closed below, and left
        ("javascript", "function f(x) {\n  if (x) {\n    ▮\n  }\n}\n", "g();\n    throw e;\n    h();\n", "g();\n    throw e;"),
        (
            "java",
            "class A {\n    int f() {\n        ▮\n    }\n}\n",
            "g();\n        return 1;\n        h();\n",
            "g();\n        return 1;",
        ),
        ("go", "func f() int {\n\t▮\n}\n", "x := 1\n\treturn x\n\tg()\n", "x := 1\n\treturn x"),
        ("rust", "fn f() -> i32 {\n    ▮\n}\n", "if a {\n        return 1;\n    }\n    2\n", None),
        # a statement that was begun
        ("python", "x = call(▮\n", "\n    1,\n    2,\n)\ny = 3\n", "\n    1,\n    2,\n)"),
        ("python", "def f():\n    x = ▮\n", "1\n    y = 2\n", "1"),
        ("javascript", "const x = foo▮\n", "(1)\n  .bar()\n  .baz();\nq();\n", "(1)\n  .bar()\n  .baz();"),
        ("go", "func f() {\n\tx := ▮\n}\n", "g(\n\t\t1,\n\t)\n\th()\n", "g(\n\t\t1,\n\t)"),
        # nothing was begun, or nothing is complete
        ("python", "x = 1\n▮\n", "y = 2\nz = 3\n", None),
        ("python", "def f(x):\n    ▮\n", "a = 1\n    b = 2\n", None),
        ("java", "class A {\n    void f() {\n        ▮", "try {\n            g();\n        }\n", None),
    ],
)
def test_complete(language: str, place: str, text: str, complete: str | None) -> None:
    assert cut(language, place, text) == complete


def test_only_blocks_of_known_languages_have_the_rule() -> None:
    assert rules("python", "def f():\n    ▮", Mode.SINGLE_LINE) == ()
    assert rules("python", "def f():\n    x = g(▮)") == ()
    assert rules("lua", "function f()\n  ▮") == ()
    assert [rule.reason for rule in rules("python", "def f():\n    ▮")] == [Reason.SYNTAX]


def test_a_place_deep_in_a_long_class_is_still_read() -> None:
    method = "    def f{0}(self):\n        if self.a:\n            return {0}\n        return None\n\n"
    before = "class A:\n" + "".join(map(method.format, range(60)))
    assert len(before) > TAIL_CHARS
    place = before + "    def last(self):\n        ▮\n"
    assert cut("python", place, "self.a = 1\n        return self\n        x()\n") == "self.a = 1\n        return self"


code = st.lists(
    st.sampled_from(["x", " = 1", "\n", "    ", "(", ")", "{", "}", ":", "if a", "return 1", '"', "日", ";"]), max_size=15
)


@given(code.map("".join), code, st.sampled_from(["python", "javascript", "go"]))
def test_what_was_complete_once_stays_complete_at_the_same_place(before: str, pieces: list[str], language: str) -> None:
    (rule,) = rules(language, f"def f():\n    {before}▮")
    cuts, written = [], ""
    for piece in ["", *pieces]:
        written += piece
        cuts.append(rule.cut(written))
    first = next((number for number, at in enumerate(cuts) if at is not None), len(cuts))
    assert len(set(cuts[first:])) <= 1
    (fresh,) = rules(language, f"def f():\n    {before}▮")
    assert fresh.cut(written) == cuts[-1]


def test_decoding_stops_within_a_token_of_the_end(workbench: Any) -> None:
    bench = workbench(text="\n    first()\n    return 1\n    second()\n" + "    third()\n" * 20, max_tokens=200)
    bench.open("def f():\n    \n\n\ndef g():\n    pass\n")
    bench.ask(1, 4)
    assert bench.suggestion.text == "first()\n    return 1"
    assert bench.backend.decoded_tokens == len(split("\n    first()\n    return 1\n"))
