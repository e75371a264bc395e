"""The judge: what passes, what does not, what says nothing about a program, and what it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType

import pytest

from coderl_generator.errors import JailFailed, JailUnavailable
from coderl_generator.jail import Guarantee, Jail, Job, Limits, Ran, open_jail
from coderl_generator.jail_types import Conversation
from coderl_generator.jail_unjailed import Unjailed
from coderl_trainer.errors import JailMissing, TooManyUngraded
from coderl_trainer.grading import JudgeGrader
from coderl_trainer.judge import Cause, Judge, JudgeLimits, Judgement, Outcome, Ungraded, open_judge
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.validate import Graded, NotGraded

WORDS = "the programs are in this file"
LIMITS = JudgeLimits(call_cpu_s=0.5, call_wall_s=5.0, program_cpu_s=5, program_wall_s=30.0)
ADD = "def add(a, b):\n    return a + b\n"


def test_limits_keep_their_proportions() -> None:
    assert JudgeLimits.of(2.0) == JudgeLimits()
    assert JudgeLimits.of(0.3).program_cpu_s == 2  # whole seconds, never fewer than were meant


@pytest.fixture(scope="module", params=["bwrap", "none"])
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    try:
        jail = open_jail(request.param, unjailed_because=WORDS)
    except JailUnavailable as error:
        pytest.skip(str(error))
    with Judge(jail, LIMITS, unjailed_because=WORDS) as made:
        yield made


def task(*visible: str, hidden: tuple[str, ...] = (), setup: str = "", name: str = "add", reference: str | None = ADD) -> Task:
    return Task("t", TaskKind.FUNCTION, "p", visible, hidden, stem="", setup=setup, entry_point=name, reference=reference)


def outcomes(judged: Judgement | Ungraded) -> list[Outcome]:
    assert isinstance(judged, Judgement), judged
    return [test.outcome for test in judged.visible]


CHECK = "def check(candidate):\n    for a in range(3):\n        assert candidate(a, 2) == a + 2\n"
TESTS = ("assert add(2, 3) == 5", "assert not add(1, -1)", CHECK)
PASSED, FAILED, RAISED, LATE = Outcome.PASSED, Outcome.FAILED, Outcome.RAISED, Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        (ADD, [PASSED] * 3),
        (ADD + "print('noise')\n", [PASSED] * 3),
        ("add = lambda a, b: a - b\n", [FAILED, FAILED, FAILED]),
        ("def add(a, b):\n    return 0\n", [FAILED, PASSED, FAILED]),
        ("def add(a, b):\n    return str(a + b)\n", [FAILED] * 3),
        ("def add(a, b):\n    return object()\n", [FAILED] * 3),
        ("def add(a, b:\n", [RAISED] * 3),
        ("x = 1\n", [RAISED] * 3),
        ("def add(a, b):\n    raise KeyError(a)\n", [RAISED] * 3),
        ("def add(a, b):\n    return 5 if a == 2 else 1 // 0\n", [PASSED, RAISED, RAISED]),
        ("import sys\nsys.exit(0)\n", [RAISED] * 3),
        ("import os\nos._exit(0)\n", [FAILED] * 3),
        ("import os\ndef add(a, b):\n    if a == 1:\n        os._exit(0)\n    return a + b\n", [PASSED, FAILED, FAILED]),
        ("def add(a, b):\n    while a == 1:\n        pass\n    return a + b\n", [PASSED, LATE, LATE]),
        ("while True:\n    pass\n", [LATE] * 3),
        ("x = 'a' * (1 << 31)\n" + ADD, [RAISED] * 3),
    ],
)
def test_how_tests_end(judge: Judge, program: str, wanted: list[Outcome]) -> None:
    judged = judge.judge(task(*TESTS), program)
    assert outcomes(judged) == wanted
    assert isinstance(judged, Judgement)
    assert judged.compiled == ("b:\n" not in program)
    assert judged.guarantees == judge.guarantees


@pytest.mark.parametrize(
    ("test", "program"),
    [
        ("assert f(2) is True", "def f(x): return x == 2"),
        ("assert abs(f(2) - 0.3) < 1e-9", "def f(x): return 0.1 + 0.2"),
        ("import math\nassert math.isclose(f(2), 0.3)", "def f(x): return 0.1 + 0.2"),
        ("assert set(f(2)) == {1, 2}", "def f(x): return [1, 2, 2]"),
        (
            "assert f(2) == {1: {2: (3, None)}}",
            "import collections\ndef f(x): return collections.OrderedDict({1: {2: (3, None)}})",
        ),
        ("assert list(f(2)) == [0, 1]", "def f(x): return (n for n in range(x))"),
        ("assert f(b'a', 1j, frozenset({1}), float('inf')) == 4", "def f(*a): return len(a)"),
        ("assert f([f(1), f(2)]) == [[1], [2]]", "def f(x): return [x] if isinstance(x, int) else x"),
        ("assert f(lambda x: x + 1) == 2", "def f(g): return g(1)"),
        ("assert f(Pair(1, 2)) == 3", "class Pair:\n  def __init__(s, a, b): s.a, s.b = a, b\ndef f(p): return p.a + p.b"),
        ("try:\n    f(0)\n    assert False\nexcept ZeroDivisionError:\n    pass", "def f(x): return 1 // x"),
        (
            "try:\n    f(0)\n    ok = False\nexcept Exception as e:\n    ok = 'Own' in str(e)\nassert ok",
            "class Own(Exception): pass\ndef f(x): raise Own",
        ),
        ("def check(candidate):\n    assert candidate([1, 2], k=3) == 5", "def f(x, k): return len(x) + k"),
        ("assert f('\\ud800\\u00e9\\U0001f600') == '\\ud800'", "def f(x): return x[0]"),
        ("assert f(1) == 10 ** 5000", "def f(x): return 10 ** 5000"),
        ("assert helper(f(1)) == 3", "def helper(x): return -1\ndef f(x): return 2"),
    ],
)
def test_tests_of_many_forms_pass(judge: Judge, test: str, program: str) -> None:
    reference = program.replace("def helper(x): return -1", "def helper(x): return x + 1")
    assert outcomes(judge.judge(task(test, name="f", reference=reference), program)) == [PASSED]


@pytest.mark.parametrize(
    "made",
    [
        "5",
        "5.0",
        "True",
        "[5]",
        "float('nan')",
        "iter([5])",
        "range(5, 6)",
        "type('Five', (int,), {'__eq__': lambda self, other: True})(4)",
        "'5' * 3000",
        "10 ** 5000",
        "{'a': [1, (2, 3)], 'b': {4}}",
    ],
)
@pytest.mark.parametrize("wanted", ["5", "[5]", "{'b': {4}, 'a': [1, (2, 3)]}"])
def test_where_a_literal_is_compared_makes_no_difference(judge: Judge, made: str, wanted: str) -> None:
    program = f"def add(a, b):\n    return {made}\n"
    here = judge.judge(task(f"assert add(1, 2) == {wanted}"), program)
    there = judge.judge(task(f"assert add(1, 2) == {wanted}", setup="pass"), program)
    assert isinstance(here, Judgement)
    assert isinstance(there, Judgement)
    assert [one.outcome for one in here.visible] == [one.outcome for one in there.visible]
    if "object at" not in here.visible[0].message:
        assert here.visible == there.visible


def test_a_forged_answer_that_stands_for_nothing_is_a_failure(judge: Judge) -> None:
    program = (
        "import sys\n"
        "def add(a, b):\n"
        "    frame = sys._getframe()\n"
        "    while 'plain' not in frame.f_locals:\n"
        "        frame = frame.f_back\n"
        "    frame.f_locals['plain']['_write'] = lambda value, put, depth: put('[\"s\",[\"l\"]]')\n"
    )
    judged = judge.judge(task("assert add(1, 2) == 3"), program)
    assert outcomes(judged) == [FAILED]
    assert isinstance(judged, Judgement)
    assert "NotPlain" in judged.visible[0].message


def test_a_helper_of_the_candidate_cannot_forge_a_comparison(judge: Judge) -> None:
    reference = "def helper(x):\n    return x + 1\ndef f(x):\n    return 2\n"
    forged = "def helper(x):\n    return 3\ndef f(x):\n    return 0\n"
    assert outcomes(judge.judge(task("assert helper(f(1)) == 3", name="f", reference=reference), forged)) == [FAILED]


def test_visible_and_hidden_tests_are_told_apart(judge: Judge) -> None:
    judged = judge.judge(task("assert add(1, 2) == 3", hidden=("assert add(5, 5) == 10",)), "def add(a, b):\n    return 3\n")
    assert isinstance(judged, Judgement)
    assert (judged.passed, judged.passed_hidden) == (True, False)
    assert judged.cpu_ms is not None
    assert judged.cpu_ms > 0


def test_messages_hold_what_came_and_not_what_was_wanted(judge: Judge) -> None:
    judged = judge.judge(task("assert add(2, 3) == 54321"), ADD)
    assert isinstance(judged, Judgement)
    assert "5" in judged.visible[0].message
    assert "54321" not in judged.visible[0].message


def test_a_test_that_swallows_everything_does_not_hide_a_dead_program(judge: Judge) -> None:
    swallows = "try:\n    add(1, 2)\nexcept BaseException:\n    pass\n"
    assert outcomes(judge.judge(task(swallows), "import os\ndef add(a, b):\n    os._exit(0)\n")) == [FAILED]
    assert outcomes(judge.judge(task(swallows), "def add(a, b):\n    while True:\n        pass\n")) == [LATE]
    assert outcomes(judge.judge(task(swallows), "def add(a, b):\n    return object()\n")) == [FAILED]


def test_a_comparison_that_the_answer_makes_endless_is_a_failure(judge: Judge) -> None:
    endless = "def check(candidate):\n    n = candidate(1, 1)\n    while n:\n        pass\n"
    assert outcomes(judge.judge(task(endless, "assert add(1, 2) == 3"), ADD)) == [LATE, PASSED]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (task("assert add("), "no Python"),
        (task("assert 1 == 1"), "does not call add"),
        (task("assert add(1, 2) == 3", setup="1 / 0"), "ZeroDivisionError"),
        (task("assert add(1, 2) == 3", setup="while True: pass"), "setup of the tests raises _Late"),
        (task("for x in (object(),):\n    assert add(x, 1)"), "no plain data"),
    ],
)
def test_a_task_that_cannot_be_judged_is_no_wrong_answer(judge: Judge, made: Task, reason: str) -> None:
    judged = judge.judge(made, ADD)
    assert isinstance(judged, Ungraded)
    assert (judged.cause, reason in judged.reason) == (Cause.TASK, True), judged


def test_many_in_parallel_keep_their_order(judge: Judge) -> None:
    told: list[tuple[int, int]] = []
    pairs = [(task(f"assert add({n}, 0) == {n}"), ADD if n % 3 else "def add(a, b):\n    return -1\n") for n in range(12)]
    judged = judge.judge_all(pairs, lambda done, of: told.append((done, of)))
    assert [isinstance(one, Judgement) and one.passed for one in judged] == [bool(n % 3) for n in range(12)]
    assert told == [(n, 12) for n in range(1, 13)]
    assert judge.ungraded[0] == 0


class Failing(Jail):
    """A jail that fails the first `times` times, then is none."""

    name = "failing"

    def __init__(self, times: int) -> None:
        self.started = 0
        self._left = times
        self._jail = Unjailed(WORDS)

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        return frozenset(Guarantee)

    def run(self, job: Job, limits: Limits) -> Ran:
        raise JailFailed("out of order")

    def converse(self, code: CodeType, limits: Limits) -> Conversation:
        if self._left:
            self._left -= 1
            raise JailFailed("out of order")
        self.started += 1
        return self._jail.converse(code, limits)


@pytest.mark.parametrize(
    ("test", "setup", "started"),
    [
        ("assert add(1, 2) == 3", "", 1),
        ("assert add('a' * 1500, 'b' * 1500) == ''", "", 2),
        ("assert add(1, 2) == 3", "pass", 2),
        ("assert add(1, 2) > 2", "", 2),
    ],
)
def test_only_what_needs_it_is_compared_in_a_second_jail(test: str, setup: str, started: int) -> None:
    jail = Failing(0)
    with Judge(jail, LIMITS) as judge:
        assert isinstance(judge.judge(task(test, setup=setup), ADD), Judgement)
    assert jail.started == started


def test_a_grader_that_fails_is_asked_once_more() -> None:
    with Judge(Failing(1), LIMITS) as judge:
        assert outcomes(judge.judge(task(*TESTS), ADD)) == [PASSED] * 3
        assert judge.ungraded == (0, 1)
    with Judge(Failing(2), LIMITS) as judge:
        judged = judge.judge(task(*TESTS), ADD)
        assert judged == Ungraded("out of order", Cause.GRADER)
        assert judge.ungraded == (1, 1)


def test_too_many_ungraded_programs_stop_the_run() -> None:
    with Judge(Failing(10_000), LIMITS) as judge, pytest.raises(TooManyUngraded, match=r"of \d+ programs could not be judged"):
        judge.judge_all([(task(*TESTS), ADD)] * 30)
    with Judge(Failing(10_000), LIMITS, ungraded_limit=1.0) as judge:
        assert len(judge.judge_all([(task(*TESTS), ADD)] * 30)) == 30


def test_the_judge_grades_for_the_validator(judge: Judge) -> None:
    good = task("assert add(1, 2) == 3", hidden=("assert add(5, 5) == 10",))
    only_hidden = task(hidden=("assert add(5, 5) == 10",))
    grade = JudgeGrader(judge)
    wrong = "def add(a, b):\n    return 3\n"
    right, hacked, broken, blind = grade([(good, ADD), (good, wrong), (task("assert 1"), ADD), (only_hidden, ADD)])
    assert right == blind == Graded(True, True)
    assert hacked == Graded(True, False, "failed: got 3")
    assert broken == NotGraded("test 1 does not call add")


def test_nothing_is_learned_from_unjailed_programs_without_words() -> None:
    with pytest.raises(JailMissing, match="bubblewrap"):
        Judge(Unjailed(WORDS))
    with pytest.raises(JailMissing, match="say in words"):
        open_judge("none")
    with open_judge("none", LIMITS, unjailed_because=WORDS) as judge:
        assert Guarantee.NO_NETWORK not in judge.guarantees
        assert outcomes(judge.judge(task(*TESTS), ADD)) == [PASSED] * 3
