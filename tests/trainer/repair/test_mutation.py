"""Mutants: programs that differ in one place and parse, in an order that only the seed decides."""

from __future__ import annotations

import ast

import pytest

from coderl_trainer.repair.mutation import mutants
from coderl_trainer.tasks import shipped_tasks

PROGRAM = (
    'def f(a, b):\n    """Text with 1 < 2."""\n    if a < b and not b:\n        return max(a + 1, b)\n    return f"{a + 1}"\n'
)


def test_one_place_is_changed() -> None:
    texts = {one.name.partition("-")[0]: one.text for one in mutants(PROGRAM)}
    assert "if a <= b and not b" in texts["compare"]
    assert "if a < b or not b" in texts["logic"]
    assert "if a < b and b:" in texts["not"]
    assert "max(a - 1, b)" in texts["arithmetic"]
    assert "max(a + 2, b)" in texts["number"]
    assert "min(a + 1, b)" in texts["name"]
    assert "max(b, a + 1)" in texts["arguments"]
    for one in mutants(PROGRAM):
        changed = [new for old, new in zip(PROGRAM.splitlines(), one.text.splitlines(), strict=True) if old != new]
        assert len(changed) == 1
        assert 'f"{a + 1}"' in one.text


def test_the_order_follows_from_the_seed() -> None:
    assert mutants(PROGRAM, "a") == mutants(PROGRAM, "a")
    assert sorted(one.name for one in mutants(PROGRAM, "b")) == sorted(one.name for one in mutants(PROGRAM, "a"))
    assert mutants(PROGRAM, "b") != mutants(PROGRAM, "a")


@pytest.mark.parametrize("program", ["def f(:", "\0", "x = 'ü' + 'ä' if 1 < 2 else 3\n"])
def test_any_text_is_taken(program: str) -> None:
    for one in mutants(program):
        ast.parse(one.text)


def test_nearly_every_shipped_program_has_mutants() -> None:
    programs = [task.program(task.reference or "") for task in shipped_tasks()]
    found = [mutants(program) for program in programs]
    assert sum(map(bool, found)) >= 0.9 * len(programs)
    for program, made in zip(programs, found, strict=True):
        assert all(one.text != program for one in made)
        assert len({one.name for one in made}) == len(made)
