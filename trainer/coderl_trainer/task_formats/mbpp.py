"""MBPP (Austin et al. 2021, "Program Synthesis with Large Language Models", §3.1) as tasks for a completion model.

The prompt is what an editor would show: the imports and classes of the reference, the function's first line, and a docstring
with the description and one example. The example is the shortest of the *visible* tests, so it is no secret but its answer
can be copied; the hidden tests say where that was done. References are written anew by `ast.unparse`, because the data mixes
tabs, blanks and line ends; functions and constants that stand before the function in the data stand behind it here.

Official parts by id: 1–10 prompt, 11–510 test, 511–600 validation, 601–974 train; `Task.metadata["part"]` holds them. Some
tasks are there twice: those with the same description, the same code or a test in common are one problem (`Task.group_id`).
Tasks 367 and 927 fail as published, because their setup uses a class that only the answer defines; here that class comes before
the setup, as for all tests that make objects.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.visibility import visible_and_hidden

from .lines import collected, field_of, json_lines, texts_of
from .source import names_in, needed, parsed

_LINE_CHARS = 88
_EXAMPLE_CHARS = 240
"""A longer example would be most of what a small model reads."""


def load_mbpp(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of an MBPP file; ids are `mbpp/` and the official number. Raises `TaskError` with the line's number."""
    rows = list(json_lines(path))
    groups = _groups([row for _, row in rows])
    return collected((_task(row, where, groups) for where, row in rows), path, leave_out)


def part_of(number: int) -> str:
    """The official part of a task."""
    return "prompt" if number <= 10 else "test" if number <= 510 else "validation" if number <= 600 else "train"


def _task(row: dict[str, Any], where: str, groups: dict[int, int]) -> Task:
    number, text = field_of(row, "task_id", int, where), field_of(row, "text", str, where)
    tests = tuple(_unix(test).strip() for test in texts_of(row, "test_list", where))
    setup = _unix(row.get("test_setup_code") or "").strip()
    try:
        program = parsed(_unix(field_of(row, "code", str, where))).body
        function = _tested(program, tests)
    except (SyntaxError, LookupError) as error:
        raise TaskError(f"{where}: {error}.") from error
    name = f"mbpp/{number}"
    visible, hidden = visible_and_hidden(name, tests)
    above = [one for one in program if isinstance(one, ast.Import | ast.ImportFrom | ast.ClassDef)]
    rest = [one for one in program if one is not function and one not in above]
    return Task(
        id=name,
        kind=TaskKind.FUNCTION,
        prompt=_prompt(above, function, text, visible),
        visible_tests=visible,
        hidden_tests=hidden,
        setup="\n".join(filter(None, (needed(program, (setup, *tests), function.name), setup))),
        entry_point=function.name,
        reference=_body(function) + "".join(f"\n\n{ast.unparse(one)}\n" for one in rest),
        group_id=f"mbpp/{groups[number]}",
        source="MBPP",
        licence="CC-BY-4.0",
        metadata=MappingProxyType({"part": part_of(number)}),
    )


def _tested(program: Sequence[ast.stmt], tests: Sequence[str]) -> ast.FunctionDef:
    """The function that the tests call; of several the last, which is the one that calls the others."""
    called = set().union(*(names_in(parsed(test)) for test in tests))
    found = [one for one in program if isinstance(one, ast.FunctionDef) and one.name in called]
    if not found:
        raise LookupError("the tests call no function of the code")
    return found[-1]


def _prompt(above: Sequence[ast.stmt], function: ast.FunctionDef, text: str, visible: Sequence[str]) -> str:
    described = textwrap.wrap(" ".join(text.split()), _LINE_CHARS)
    example = _example(min(visible, key=lambda test: (len(test), test)), function.name)
    lines = described if len(described) == 1 and not example else [*described, *([""] if example else []), *example, ""]
    docstring = "\n".join(f"    {line}" if line and index else line for index, line in enumerate(lines))
    docstring += "    " if docstring.endswith("\n") else ""
    head = ast.FunctionDef(function.name, function.args, [ast.Expr(ast.Constant(docstring))], [], lineno=1)
    return "\n\n\n".join(filter(None, ("\n".join(map(ast.unparse, above)), ast.unparse(head)))) + "\n"


def _example(test: str, name: str) -> list[str]:
    """A test as lines of a docstring: as a session where it compares a call with a value, else as it is."""
    if len(test) > _EXAMPLE_CHARS:
        return []
    (statement,) = parsed(test).body
    wanted = statement.test if isinstance(statement, ast.Assert) else None
    if isinstance(wanted, ast.Compare) and isinstance(wanted.ops[0], ast.Eq) and len(wanted.ops) == 1:
        call = wanted.left
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name:
            return [f">>> {ast.unparse(call)}", ast.unparse(wanted.comparators[0])]
    return [f">>> {ast.unparse(statement)}"]


def _body(function: ast.FunctionDef) -> str:
    """What follows the first line, without a docstring of its own."""
    first = function.body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(function.body) > 1
    body = function.body[1:] if described else function.body
    whole = ast.unparse(ast.FunctionDef(function.name, function.args, body, [], lineno=1))
    return whole.partition("\n")[2] + "\n"


def _groups(rows: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Number → smallest number of its problem."""
    root: dict[int, int] = {}
    first: dict[str, int] = {}

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for row in rows:
        number = row.get("task_id")
        if not isinstance(number, int):
            continue  # `_task` says so
        root.setdefault(number, number)
        keys = [" ".join(str(row.get("text")).lower().split()), _same_code(str(row.get("code")))]
        keys += [str(test).strip() for test in row.get("test_list") or ()]
        for key in keys:
            one, other = sorted((find(number), find(first.setdefault(key, number))))
            root[other] = one
    return {number: find(number) for number in root}


def _same_code(code: str) -> str:
    try:
        return ast.dump(parsed(_unix(code)))
    except SyntaxError:
        return code


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
