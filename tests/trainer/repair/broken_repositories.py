"""Repair tasks of this project's tests, and agents for them: small programs, known to the byte."""

from __future__ import annotations

from pathlib import Path

from coderl_trainer.repair.agents import Agent
from coderl_trainer.repair.making import patch_of
from coderl_trainer.repair.tasks import RepairTask

WRONG = "def area(width, height):\n    return width + height\n"
RIGHT = "def area(width, height):\n    return width * height\n"
TESTS = (
    "import unittest\n\nfrom area import area\n\n\nclass TestArea(unittest.TestCase):\n"
    "    def test_two(self):\n        self.assertEqual(area(2, 3), 6)\n"
)
AGENT = Path(__file__).with_name("tiny_agent.py")


def area_task(name: str = "own/area") -> RepairTask:
    """A function that adds where it should multiply."""
    return RepairTask(
        id=name,
        problem_statement="area of area.py should be the area of a rectangle.",
        patch=patch_of("area.py", WRONG, RIGHT),
        files={"area.py": WRONG, "tests/test_area.py": TESTS, "tests/__init__.py": ""},
        module="area.py",
        entry_point="area",
        visible_tests=("assert area(2, 3) == 6",),
        fail_to_pass=("assert area(4, 5) == 20", "assert area(7, 1) == 7"),
        pass_to_pass=("assert area(0, 0) == 0", "assert area(2, 2) == 4"),
        protected=("tests/test_area.py", "tests/__init__.py"),
    )


def program(code: str) -> Agent:
    """An agent that is one Python program of one line or several; it asks no model. `WRONG` and `RIGHT` are known to it."""
    text = f"WRONG = {WRONG!r}\nRIGHT = {RIGHT!r}\nimport os, pathlib, subprocess, sys\n{code}"
    quoted = text.replace("{", "{{").replace("}", "}}").replace("'", "'\"'\"'")
    return Agent(f"{{python}} -c '{quoted}' {{task}}")


REPAIRS = program("pathlib.Path('area.py').write_text(RIGHT)")
