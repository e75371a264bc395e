"""Tests taken apart: direct calls, live tests, and what cannot be judged."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.plans import PlannedTest, plan
from coderl_trainer.types import Task, TaskKind


def task(*tests: str, setup: str = "", entry_point: str = "f", reference: str | None = "def f(*a):\n    return a\n") -> Task:
    return Task("t", TaskKind.FUNCTION, "p", tests, stem="", setup=setup, entry_point=entry_point, reference=reference)


def planned(test: str, setup: str = "") -> PlannedTest:
    made = plan(task(test, setup=setup))
    assert made.refusal == ""
    return made.tests[0]


@pytest.mark.parametrize(
    ("test", "source", "calls"),
    [
        ("assert f(1, [2]) == 3", "assert _answer_0 == 3", ("f(1, [2])",)),
        ("assert candidate(1) is True", "assert _answer_0 is True", ("f(1)",)),
        ("assert not f('x')", "assert not _answer_0", ("f('x')",)),
        ("assert abs(f(2) - 1.5) < 1e-6, 'text'", "assert abs(_answer_0 - 1.5) < 1e-06, 'text'", ("f(2)",)),
        ("import math\nassert math.isclose(f(2), 1)", None, ()),
        ("assert set(f(1)) == {1}", "assert set(_answer_0) == {1}", ("f(1)",)),
        ("assert len(f(*range(3), k=f(1))) == 4", "assert len(_answer_0) == 4", ("f(*range(3), k=f(1))",)),
        ("assert f(f(1)) == f(2)", "assert _answer_0 == _answer_1", ("f(f(1))", "f(2)")),
        ("assert f(1)[0].strip() == 'a'", "assert _answer_0[0].strip() == 'a'", ("f(1)",)),
        ("assert f(lambda x: x)", "assert _answer_0", ("f(lambda x: x)",)),
        ("assert f(1)\nassert f(2)", "assert _answer_0\nassert _answer_1", ("f(1)", "f(2)")),
        ("assert [f(x) for x in (1, 2)] == [1, 2]", None, ()),
        ("assert f(1) == 1 and f(2) == 2", None, ()),
        ("for x in range(3):\n    assert f(x) == x", None, ()),
        ("assert list(map(f, [1])) == [1]", None, ()),
        ("def check(candidate):\n    assert candidate(1) == 1", None, ()),
    ],
)
def test_direct_and_live_tests(test: str, source: str | None, calls: tuple[str, ...]) -> None:
    made = planned(test)
    assert made.live == (source is None)
    assert made.calls == calls
    if source is not None:
        assert made.source == source


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        ("assert f(1) == [1, -2.5, {'a': (None,)}]", ("[1, -2.5, {'a': (None,)}]",)),
        ("assert 3 == f(1), 'text'", ("3",)),
        ("assert f(1) == 1\nassert {2} == f(2)", ("1", "{2}")),
        ("assert f(1) == 1, g", ()),
        ("assert f(1) == f(2)", ()),
        ("assert f(1) != 1", ()),
        ("assert f(1) is None", ()),
        ("assert 1 == f(1) == 1", ()),
        ("assert f(1) == [*'ab']", ()),
        ("assert f(1) == len('a')", ()),
        ("assert f(1) == {[]: 1}", ()),
        ("assert f(1) == 1\nassert f(2)", ()),
        ("def check(candidate):\n    assert candidate(1) == 1", ()),
    ],
)
def test_tests_that_only_say_what_is_returned(test: str, wanted: tuple[str, ...]) -> None:
    assert planned(test, setup="g = 1").wanted == wanted


def test_a_check_that_nobody_calls_is_called() -> None:
    assert planned("def check(candidate):\n    assert candidate(1) == 1").source.endswith("check(candidate)")
    assert planned("def check(c):\n    assert c(1) == 1\ncheck(f)").source.endswith("check(f)")


def test_names_come_from_the_reference_and_never_from_the_candidate() -> None:
    reference = "import math\ndef helper(x):\n    return x\ndef f(x):\n    return x\n"
    made = plan(task("assert helper(f(1)) == math.floor(1.5)", reference=reference))
    assert made.tests[0] == PlannedTest("assert helper(_answer_0) == math.floor(1.5)", ("f(1)",))
    assert made.setup == (reference,)
    assert "helper" in plan(task("assert helper(f(1)) == 1", reference=None)).refusal


def test_setup_goes_to_the_candidate_only_where_a_call_needs_it() -> None:
    setup = "secret = 5\n"
    assert plan(task("assert f(1) == secret", setup=setup)).candidate_setup == ""
    assert plan(task("assert f(secret) == 1", setup=setup)).candidate_setup == setup


def test_without_an_entry_point_the_candidate_is_what_is_called() -> None:
    made = plan(task("import math\nassert math.isclose(g(1), 1)", entry_point="", reference="def g(x):\n    return x\n"))
    assert (made.refusal, made.names, made.tests[0].live) == ("", ("g",), True)
    made = plan(
        task("assert isclose(g(1), 1)", entry_point="", reference="from math import isclose\ndef g(x):\n    return x\n")
    )
    assert made.names == ("g",)
    assert made.tests[0].calls == ("g(1)",)


@pytest.mark.parametrize(
    ("tests", "setup", "reason"),
    [
        (("assert f(1) == 1", "assert 1 == 1"), "", "test 2 does not call f"),
        (("assert f(",), "", "test 1 is no Python"),
        (("assert f(1)",), "x = (", "the setup is no Python"),
        (("assert f(1) == Node(1)",), "", "the tests use Node"),
        (("assert f(root)",), "root = Node(1)", "the tests use Node"),
    ],
)
def test_what_cannot_be_judged_is_said(tests: tuple[str, ...], setup: str, reason: str) -> None:
    assert reason in plan(task(*tests, setup=setup)).refusal


def test_the_plan_of_the_same_tests_is_made_once() -> None:
    assert plan(task("assert f(1) == 7")) is plan(task("assert f(1) == 7"))


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(literals, literals, st.sampled_from(["==", "!=", "<", "in", "is"]), st.sampled_from(["f", "candidate"]))
def test_a_plain_comparison_is_taken_apart_without_loss(argument: object, expected: object, sign: str, name: str) -> None:
    made = planned(f"assert {name}({argument!r}) {sign} {expected!r}")
    assert not made.live
    (call,) = made.calls
    assert ast.literal_eval(ast.parse(call, mode="eval").body.args[0]) == argument  # type: ignore[attr-defined]
    assert repr(expected) == "" or "f(" not in made.source.replace(repr(expected), "")


@given(st.text(max_size=60))
def test_no_text_of_a_test_raises(text: str) -> None:
    made = plan(task(text))
    assert made.refusal or made.tests
