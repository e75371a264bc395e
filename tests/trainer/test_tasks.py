"""Readers of files of tasks: our own rows in the forms of the public sets, and the sets themselves where they are at hand."""

from __future__ import annotations

import ast
import gzip
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import TaskError
from coderl_trainer.reward_parts import similarity
from coderl_trainer.splits import Part, split
from coderl_trainer.task_formats.schema import faults, task_schema
from coderl_trainer.task_formats.source import parsed
from coderl_trainer.tasks import (
    counts_by_source,
    load_humaneval_infilling,
    load_mbpp,
    load_quixbugs,
    load_tasks,
    read_tasks,
    write_tasks,
)
from coderl_trainer.types import Task, TaskKind, Tier
from coderl_trainer.validate import validate

from .plain_grader import plain_grader

MBPP: dict[str, Any] = {
    "text": "Write a function to find the price of a cart with\n tax.",
    "code": "import math\r\nRATE = 0.5\r\ndef rounded(x):\r\n\treturn math.floor(x)\r\ndef price(cart):\r\n\t'''doc'''\r\n"
    "\tif not cart:\r\n\t\treturn 0\r\n\treturn rounded(sum(cart) * (1 + RATE)) # up\r\n",
    "task_id": 700,
    "test_setup_code": "",
    "test_list": ["assert price([2]) == 3", "assert price([2, 4]) == 9", "assert price([]) == 0"],
    "challenge_test_list": [],
}
QUIXBUGS: dict[str, Any] = {
    "task_id": "quixbugs/steps",
    "entry_point": "steps",
    "buggy": "def steps(n):\n    for x in range(n):\n        yield (x, n)\n\n"
    '"""\nSteps\n\nPairs of a number and the one behind it.\n"""\n',
    "correct": "import string\ndef steps(n):\n\n    for x in range(n):\n        yield (x, x + 1)\n\n\n'''\nanother way\n'''\n",
    "cases": [{"args": [n], "expected": [[x, x + 1] for x in range(n)]} for n in (2, 3, 4)],
}
HUMANEVAL: dict[str, Any] = {
    "task_id": "SingleLineInfilling/HumanEval/900/L1",
    "entry_point": "decode",
    "prompt": "def encode(s):\n    return s[::-1]\n\n\ndef decode(s):\n    # back\n",
    "suffix": "    return t\n",
    "canonical_solution": "    t = s[::-1]\n",
    "test": "METADATA = {'a': 1}\n\n\ndef check(candidate):\n    '''doc'''\n    assert candidate('ab') == 'ba', \"one\"\n"
    "    assert True, 'two'\n    assert candidate(encode('x y')) == [\n        'x y'\n    ][0]\n"
    "    assert candidate('') == ''\n",
}


def written(folder: Path, *rows: object, name: str = "tasks.jsonl") -> Path:
    path = folder / name
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


# -- MBPP ---------------------------------------------------------------------------------------------------------------------


def test_a_task_of_mbpp_becomes_a_function_to_complete(tmp_path: Path) -> None:
    (task,) = load_mbpp(written(tmp_path, MBPP))
    shown = min(task.visible_tests, key=len)
    call, value = shown.removeprefix("assert ").split(" == ")
    assert task.prompt == (
        "import math\n\n\ndef price(cart):\n"
        f'    """Write a function to find the price of a cart with tax.\n\n    >>> {call}\n    {value}\n    """\n'
    )
    assert task.reference == (
        "    if not cart:\n        return 0\n    return rounded(sum(cart) * (1 + RATE))\n"
        "\n\nRATE = 0.5\n\n\ndef rounded(x):\n    return math.floor(x)\n"
    )
    assert (task.entry_point, task.kind, task.licence) == ("price", TaskKind.FUNCTION, "CC-BY-4.0")
    assert (len(task.visible_tests), len(task.hidden_tests)) == (2, 1)
    assert all(test.removeprefix("assert ") not in task.prompt.replace("\n    ", " == ") for test in task.hidden_tests)
    assert validate([task], plain_grader).bad == ()


def test_what_the_tests_are_made_of_comes_with_them(tmp_path: Path) -> None:
    code = "class Point:\n    def __init__(self, x):\n        self.x = x\n"
    code += "def largest(points):\n    return max(p.x for p in points)"
    tests = ["assert largest([Point(1), Point(3)]) == 3", "assert largest([Point(2)]) == 2"]
    (task,) = load_mbpp(
        written(tmp_path, {**MBPP, "code": code, "test_list": tests, "test_setup_code": "three = Point(3)\r\n"})
    )
    assert task.prompt.startswith("class Point:")
    assert task.setup.splitlines()[-1] == "three = Point(3)", "what it is made of stands above it"
    names: dict[str, Any] = {"largest": lambda points: points[0].x}
    exec(task.setup, names)
    assert eval("largest([Point(7)])", names) == 7


def test_backslashes_and_quotes_survive_the_docstring(tmp_path: Path) -> None:
    text = 'Write a function to split at \\n and """ and end in a quote"'
    tests = [r'assert split_at("a\nb") == ["a", "b"]', "assert split_at('') == []"]
    (task,) = load_mbpp(
        written(tmp_path, {**MBPP, "text": text, "code": "def split_at(s):\n return s.split()", "test_list": tests})
    )
    tree = ast.parse(task.program(task.reference or ""))
    assert (ast.get_docstring(tree.body[0]) or "").startswith(text)  # type: ignore[arg-type]


def test_an_example_that_is_too_long_is_not_shown(tmp_path: Path) -> None:
    long = [f"assert total({[number] * 200}) == {200 * number}" for number in (1, 2)]
    (task,) = load_mbpp(written(tmp_path, {**MBPP, "code": "def total(v): return sum(v)", "test_list": long}))
    assert task.prompt == 'def total(v):\n    """Write a function to find the price of a cart with tax."""\n'


def test_tasks_that_are_there_twice_are_one_problem(tmp_path: Path) -> None:
    other = {**MBPP, "code": "def other(x): return x", "test_list": ["assert other(1) == 1"]}
    rows = [
        MBPP,
        {**other, "task_id": 20},  # the same text as the first
        {**other, "task_id": 3, "text": "unlike", "code": "def third(x): return 2", "test_list": ["assert third(1) == 2"]},
        {
            **other,
            "task_id": 555,
            "text": "unlike again",
            "code": "def third(x):  return 2",
            "test_list": ["assert third(0) == 2"],
        },
    ]
    tasks = load_mbpp(written(tmp_path, *rows))
    assert [task.problem for task in tasks] == ["mbpp/20", "mbpp/20", "mbpp/3", "mbpp/3"]
    splits = split(tasks)
    assert [task.id for task in splits.apart] == ["mbpp/20"]
    assert [task.id for task in splits.validation] == ["mbpp/555"]
    assert {task.id for task in splits.left_out} == {"mbpp/700", "mbpp/3"}


# -- QuixBugs -----------------------------------------------------------------------------------------------------------------


def test_a_task_of_quixbugs_shows_the_wrong_version(tmp_path: Path) -> None:
    (task,) = load_quixbugs(written(tmp_path, QUIXBUGS))
    assert task.stem == "import string\n\n\ndef steps(n):\n\n"
    assert task.prompt.endswith(task.stem)
    assert "# This version is wrong:\n#\n# def steps(n):\n#     for x in range(n):\n#         yield (x, n)\n" in task.prompt
    assert task.prompt.startswith("# Steps\n#\n# Pairs of")
    assert task.reference == "    for x in range(n):\n        yield (x, x + 1)\n"
    assert "another way" not in task.program(task.reference)
    assert task.entry_point == "listed", "a generator is called through a function that lists it"
    assert validate([task], plain_grader).bad == ()
    buggy = "    for x in range(n):\n        yield (x, n)\n"
    (graded,) = plain_grader([(task, buggy)])
    assert getattr(graded, "passed", None) is False
    assert task.metadata["before"] == task.program(buggy)
    assert [similarity(task, text, None) for text in (buggy, task.reference)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "expected", "alike"),
    [
        ((1, 2), [1, 2], True), ([(1, 2)], [[1, 2]], True), ([1], [1, 2], False), (1.004, 1.0, True), (1.02, 1.0, False),
        (3, 3.0, True), ("ab", "ab", True), ("ab", ["a", "b"], False), (None, 1.0, False), ([1, [2.0]], [1, [2.001]], True),
        (True, True, True), (float("inf"), 1.0, False),
    ],
)  # fmt: skip
def test_answers_are_compared_as_in_the_data(tmp_path: Path, answer: object, expected: object, alike: bool) -> None:
    (task,) = load_quixbugs(written(tmp_path, QUIXBUGS))
    names: dict[str, Any] = {}
    exec(task.setup, names)
    assert names["same"](answer, expected) is alike


# -- HumanEval-infilling ------------------------------------------------------------------------------------------------------


def test_a_flat_check_becomes_one_test_per_assert(tmp_path: Path) -> None:
    (task,) = load_humaneval_infilling(written(tmp_path, HUMANEVAL, name="tasks.jsonl.gz"))
    tests = {*task.visible_tests, *task.hidden_tests}
    assert tests == {
        "assert candidate('ab') == 'ba', \"one\"",
        "assert candidate(encode('x y')) == [\n        'x y'\n    ][0]",
        "assert candidate('') == ''",
    }, "what does not call the answer is no test"
    assert task.setup == "def encode(s):\n    return s[::-1]"
    assert (task.problem, task.licence, task.reference) == ("HumanEval/900", "MIT", "    t = s[::-1]")
    assert task.program(task.reference or "").endswith("    t = s[::-1]\n    return t\n")
    assert validate([task], plain_grader).bad == ()


def test_a_check_with_more_in_it_stays_whole(tmp_path: Path) -> None:
    test = "import random\n\ndef check(candidate):\n    for x in 'ab':\n        assert candidate(x) == x\n"
    test += "    y = 'ba'\n    assert candidate('ab') == y\n"
    (task,) = load_humaneval_infilling(written(tmp_path, {**HUMANEVAL, "test": test}))
    assert task.visible_tests == (test.partition("\n\n")[2].strip(),)
    assert task.hidden_tests == ()
    assert task.setup == "import random"
    assert validate([task], plain_grader).bad == ()
    assert counts_by_source([task])[0].single_test == 1


def test_a_hidden_test_is_hidden_in_all_gaps_of_a_problem(tmp_path: Path) -> None:
    rows = [{**HUMANEVAL, "task_id": f"SingleLineInfilling/HumanEval/900/L{number}"} for number in range(5)]
    tasks = load_humaneval_infilling(written(tmp_path, *rows))
    assert len({task.hidden_tests for task in tasks}) == 1


def test_the_gaps_of_coderl_eval_are_read_too(tmp_path: Path) -> None:
    row = {"id": "one", "prefix": "x = ", "suffix": "\n", "answer": "3", "test": "assert x == 3", "group": "g", "path": "a.py"}
    bare = {"id": "two", "prefix": "y = ", "suffix": "\n", "answer": "4"}
    first, second = read_tasks(written(tmp_path, row, bare))
    assert (first.visible_tests, first.problem, first.path) == (("assert x == 3",), "g", "a.py")
    assert (second.visible_tests, second.reference) == ((), "4")
    found = validate([first, second], plain_grader)
    assert (found.checked, found.bad, found.untested) == (1, (), ("two",))


# -- our own form -------------------------------------------------------------------------------------------------------------

OWN: dict[str, Any] = {
    "id": "a",
    "kind": "infill",
    "prompt": "x = ",
    "suffix": "\n",
    "reference": "1",
    "tests": ["assert x == 1"],
}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is no JSON"),
        ("[1]", "line 2 is no JSON object"),
        ({**OWN, "kind": "riddle"}, "line 2: `kind` is 'riddle', not one of function, infill, repair."),
        ({**OWN, "tests": ["", 3]}, "line 2: `tests[0]` is empty; `tests[1]` is no string."),
        ({**OWN, "answer": "1"}, "line 2: `answer` is no key of a task."),
        ({"id": "b"}, "line 2: `kind` is missing; `prompt` is missing; it needs one of `tests`, `visible_tests`, `reference`."),
        ({**OWN, "tier": "silly"}, "line 2: `tier` is 'silly', not one of easy, medium, hard."),
        ({**OWN, "metadata": {"a": 1}}, "line 2: `metadata.a` is no string."),
        ({**OWN, "hidden_tests": ["assert x"]}, "line 2: `tests` are split here"),
        ({"id": "b", "kind": "infill", "prompt": "", "tests": []}, "line 2: Task b has neither a visible test nor a reference"),
        (OWN, "two tasks of the id a."),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(TaskError) as raised:
        load_tasks(written(tmp_path, OWN, row))
    assert message in str(raised.value)
    assert str(tmp_path) in str(raised.value)


TEXT = st.text(max_size=20)
TESTS = st.lists(TEXT.filter(bool), max_size=4).map(tuple)
TASKS = st.builds(
    Task,
    id=TEXT.filter(bool),
    kind=st.sampled_from(TaskKind),
    prompt=TEXT,
    visible_tests=TESTS.filter(bool),
    hidden_tests=TESTS,
    setup=TEXT,
    suffix=st.none() | TEXT.filter(bool),
    stem=st.none() | TEXT.filter(bool),
    entry_point=TEXT,
    reference=st.none() | TEXT.filter(bool),
    group_id=TEXT,
    tier=st.none() | st.sampled_from(Tier),
    metadata=st.dictionaries(TEXT, TEXT, max_size=2).map(MappingProxyType),
)


@given(st.lists(TASKS, min_size=1, max_size=4, unique_by=lambda task: task.id))
def test_what_is_written_is_read_as_the_same(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> None:
    path = tmp_path_factory.mktemp("own") / "tasks.jsonl"
    assert write_tasks(tasks, path) == len(tasks)
    assert load_tasks(path) == tasks


def test_a_schema_that_says_more_than_is_checked_is_refused() -> None:
    assert list(faults({}, task_schema()))
    with pytest.raises(ValueError, match="pattern"):
        list(faults("a", {"type": "string", "pattern": "b"}))


# -- gaps marked in a text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[task]\n", "is no TOML: .*line 1"),
        ("author = 'me'\n[[task]]\nid = 'a'\n", "holds author"),
        ("task = [3]\n", "a `task` that is no table"),
        ("[[task]]\nid = 'a'\ntext = 'x'\ntests = ['True']\n", r"task 1 \(a\): `text` must hold one gap"),
        ("[[task]]\nid = 'a'\ntext = 'x⟧⟦'\ntests = ['True']\n", "must hold one gap"),
        ("[[task]]\nid = 'a'\ntext = '⟦x⟧'\n", "`tests` must be a list"),
        ("[[task]]\nid = 'a'\nhint = 'b'\ntext = '⟦x⟧'\ntests = ['x']\n", "hint is no key"),
        ("[[task]]\ntext = '⟦x⟧'\ntests = ['x']\n", r"task 1 \(without id\): `id` is missing"),
        ("source = 'nothing'\n", "holds no tasks"),
    ],
)
def test_a_bad_file_of_gaps_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gaps.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=message):
        read_tasks(path)


# -- which form ---------------------------------------------------------------------------------------------------------------


def test_the_form_of_a_file_is_told_by_its_keys(tmp_path: Path) -> None:
    kinds = [read_tasks(written(tmp_path, row))[0].kind for row in (MBPP, QUIXBUGS, HUMANEVAL, OWN)]
    assert kinds == [TaskKind.FUNCTION, TaskKind.REPAIR, TaskKind.INFILL, TaskKind.INFILL]


@pytest.mark.parametrize(
    ("rows", "message"),
    [(({"question": "?"},), "line 1 is of no known form"), ((), "holds no tasks"), (("x",), "line 1 is no JSON")],
)
def test_a_file_of_no_known_form_is_refused(tmp_path: Path, rows: tuple[object, ...], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_tasks(written(tmp_path, *rows))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path / "none.toml", tmp_path):
        with pytest.raises(TaskError, match="cannot be read"):
            read_tasks(path)
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(json.dumps(OWN).encode() * 50)[:40])
    with pytest.raises(TaskError, match="cannot be read"):
        read_tasks(tmp_path / "torn.jsonl.gz")
    with pytest.raises(TaskError, match="cannot be written"):
        write_tasks([], tmp_path)


@pytest.mark.parametrize(
    ("load", "row", "changes", "message"),
    [
        (load_mbpp, MBPP, {"test_list": "assert"}, "line 1: `test_list` is str, not list"),
        (load_mbpp, MBPP, {"test_list": [1]}, "line 1: `test_list` holds something else than texts"),
        (load_mbpp, MBPP, {"code": "def f(:"}, "line 1: invalid syntax"),
        (load_mbpp, MBPP, {"code": "def f(): pass"}, "line 1: the tests call no function of the code"),
        (load_mbpp, MBPP, {"task_id": "7"}, "line 1: `task_id` is str, not int"),
        (load_quixbugs, QUIXBUGS, {"correct": "def other(): pass"}, "line 1: there is no function steps"),
        (load_quixbugs, QUIXBUGS, {"cases": [{"args": 3}]}, "line 1: a case needs"),
        (load_humaneval_infilling, HUMANEVAL, {"test": "def check("}, "L1 are no Python"),
        (load_humaneval_infilling, HUMANEVAL, {"test": None}, "line 1 lacks id"),
    ],
)
def test_a_bad_row_of_a_public_form_is_named(
    tmp_path: Path, load: Callable[[Path], list[Task]], row: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        load(written(tmp_path, {**row, **changes}))


def test_tasks_can_be_left_out_by_id(tmp_path: Path) -> None:
    path = written(tmp_path, OWN, {**OWN, "id": "b"})
    assert [task.id for task in read_tasks(path, leave_out=frozenset(("a", "unknown")))] == ["b"]
    assert read_tasks(path, leave_out=frozenset(("a", "b"))) == []


# -- the public sets themselves -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def public(shared_data: Path) -> dict[str, list[Task]]:
    folder = shared_data / "tasks"
    if not folder.is_dir():
        pytest.skip("CODERL_SHARED_DATA holds no folder `tasks`")
    infilling = folder / "humaneval-infilling" / "data"
    return {
        "mbpp": read_tasks(folder / "mbpp" / "mbpp.jsonl"),
        "quixbugs": read_tasks(folder / "quixbugs" / "quixbugs.jsonl"),
        "single": read_tasks(infilling / "HumanEval-SingleLineInfilling.jsonl.gz"),
        "light": read_tasks(infilling / "HumanEval-RandomSpanInfillingLight.jsonl.gz"),
    }


def test_the_public_sets_are_read_whole(public: dict[str, list[Task]]) -> None:
    counts = counts_by_source(task for tasks in public.values() for task in tasks)
    assert {one.source: (one.tasks, one.problems, one.single_test) for one in counts} == {
        "MBPP": (974, 960, 1),
        "QuixBugs": (31, 31, 0),
        "HumanEval-infilling SingleLineInfilling": (1033, 164, 21),
        "HumanEval-infilling RandomSpanInfillingLight": (164, 164, 7),
    }
    for one in counts:
        assert 0.8 < one.hidden_tests / one.visible_tests <= 1 or one.source == "MBPP"
    assert all(one.untested == 0 for one in counts)


def test_every_program_of_a_reference_is_python(public: dict[str, list[Task]]) -> None:
    for tasks in public.values():
        for task in tasks:
            parsed(task.program(task.reference or ""))
            for test in (*task.visible_tests, *task.hidden_tests):
                assert len(parsed(test).body) == 1, task.id


def test_a_repair_is_compared_by_the_lines_it_changes(public: dict[str, list[Task]]) -> None:
    for task in public["quixbugs"]:
        assert task.stem is not None
        before = task.metadata["before"]
        wrong = before[len(task.stem) : len(before) - len(task.suffix or "")]
        assert before == task.program(wrong), task.id
        parsed(before)
        assert [similarity(task, text, None) for text in (wrong, task.reference or "")] == [0.0, 1.0], task.id
        assert wrong.replace("\n", "").replace(" ", "") in task.prompt.replace("\n#", "").replace(" ", ""), task.id


def test_no_hidden_test_is_shown(public: dict[str, list[Task]]) -> None:
    """The example of a prompt is a visible test. HumanEval's and QuixBugs' descriptions are the data's own."""
    for task in public["mbpp"]:
        docstring = ast.get_docstring(parsed(task.prompt).body[-1]) or ""  # type: ignore[arg-type]
        _, _, example = docstring.rpartition(">>> ")
        for test in task.hidden_tests:
            call = ast.unparse(parsed(test)).removeprefix("assert ").partition(" == ")[0]
            assert not example.startswith(f"{call}\n"), task.id


def test_the_public_sets_are_split_by_problem(public: dict[str, list[Task]]) -> None:
    splits = split(task for tasks in public.values() for task in tasks)
    sides = [{task.problem for task in splits.part(part)} for part in Part]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert Counter(task.source for task in splits.apart) == {"MBPP": 500}
    assert {task.source for task in splits.left_out} == {"MBPP"}
    assert len(splits.left_out) < 15


SLOW = frozenset(("quixbugs/knapsack", "quixbugs/levenshtein"))
"""Right, but over 8 s on some cases."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mbpp", "light", "quixbugs"])
def test_the_references_pass(public: dict[str, list[Task]], name: str) -> None:
    tasks = [task for task in public[name] if task.id not in SLOW]
    graded = partial(plain_grader, cpu_s=10.0)([(task, task.reference or "") for task in tasks])
    assert [(task.id, one) for task, one in zip(tasks, graded, strict=True) if not getattr(one, "passed", False)] == []
