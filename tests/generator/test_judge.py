"""The judge: what passes, what does not, and what says nothing about the program."""

from __future__ import annotations

import pytest

from coderl_generator.judge import Judge, Limits, Verdict

TESTS = "def check(candidate):\n    assert candidate(2, 3) == 5\n"
RIGHT = "def add(a, b):\n    return a + b\n"
JUDGE = Judge(Limits(cpu_s=1, wall_s=3.0, memory_bytes=1 << 28))


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (RIGHT, Verdict.PASSED),
        (RIGHT + "print('noise')\n", Verdict.PASSED),
        ("def add(a, b):\n    return a - b\n", Verdict.FAILED),
        ("def add(a, b:\n", Verdict.FAILED),
        ("x = 1\n", Verdict.FAILED),
        ("import sys\nsys.exit(0)\n", Verdict.FAILED),
        ("import os\nos._exit(0)\n", Verdict.FAILED),
        ("def add(a, b):\n    raise SystemExit(0)\n", Verdict.FAILED),
        ("print('started')\nprint('passed')\nimport os\nos._exit(0)\n", Verdict.FAILED),
        ("def check(candidate):\n    return True\ndef add(a, b):\n    return 0\n", Verdict.FAILED),
        ('def add(a, b):\n    return a + b\n"""', Verdict.FAILED),
        ("x = 'a' * (1 << 29)\n" + RIGHT, Verdict.FAILED),
        ("open('big', 'wb').write(b'a' * (1 << 21))\n" + RIGHT, Verdict.FAILED),
        ("while True:\n    pass\n", Verdict.TIMED_OUT),
    ],
)
def test_a_program_passes_only_where_its_tests_ran_through(program: str, verdict: Verdict) -> None:
    assert JUDGE.judge(program, TESTS, "add") is verdict


def test_a_program_that_sleeps_is_given_up() -> None:
    judge = Judge(Limits(wall_s=0.7))
    assert judge.judge("import time\ntime.sleep(60)\n", "", "") is Verdict.TIMED_OUT


def test_a_flood_of_output_is_not_read_to_its_end() -> None:
    flood = (
        "import os\n"
        "for descriptor in range(3, 10):\n"
        "    try:\n"
        "        while True:\n"
        "            os.write(descriptor, b'x' * 65536)\n"
        "    except OSError:\n"
        "        pass\n"
    )
    assert JUDGE.judge(flood + RIGHT, TESTS, "add") is Verdict.FAILED


def test_tests_without_an_entry_point_see_the_names_of_the_program() -> None:
    assert JUDGE.judge(RIGHT, "assert add(1, 1) == 2") is Verdict.PASSED
    assert JUDGE.judge(RIGHT, "assert add(1, 1) == 3") is Verdict.FAILED


def test_a_grader_that_fails_is_no_wrong_answer() -> None:
    assert JUDGE.judge(RIGHT, "def check(candidate:\n", "add") is Verdict.JUDGE_FAILED
    assert Judge(python="/nonexistent/python").judge(RIGHT, TESTS, "add") is Verdict.JUDGE_FAILED


def test_the_environment_and_the_folder_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    program = "import os\ndef seen():\n    return os.environ.get('A_SECRET'), os.listdir('.')\n"
    assert JUDGE.judge(program, "assert seen() == (None, [])") is Verdict.PASSED


def test_there_is_no_network_where_it_can_be_closed() -> None:
    if not JUDGE.closed_network:
        pytest.skip("this system lets no user make a network namespace")
    program = (
        "import socket\n"
        "def up():\n"
        "    server = socket.create_server(('127.0.0.1', 0))\n"
        "    try:\n"
        "        socket.create_connection(server.getsockname(), 1)\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
    )
    assert JUDGE.judge(program, "assert not up()") is Verdict.PASSED
