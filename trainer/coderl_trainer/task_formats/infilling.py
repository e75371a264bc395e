"""Gaps in a text: HumanEval-infilling (Bavarian et al. 2022, §4) and the form of `coderl eval` (`coderl_generator.tasks`).

The `check` of a HumanEval task is taken apart into one test per assert where it holds nothing else; asserts that do not call
the answer are left out. Where it holds loops or variables the whole function is one test. What the tests use of the program
(`poly`, `encode_cyclic`) comes with them as `Task.setup`, since it stands before the gap.

27 of the 1,033 single-line tasks are solved by an empty line. That is found by running (`coderl_trainer.validate`), not here:
pass their ids as `leave_out`.
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import MappingProxyType

from coderl_generator.errors import BadTask
from coderl_generator.tasks import InfillTask, read_tasks
from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task, TaskKind, Tier
from coderl_trainer.visibility import visible_and_hidden

from .lines import collected
from .source import bound_by, needed, parsed, single_tests

_ABOUT = "METADATA"
"""What HumanEval's tests say of their author."""


def load_humaneval_infilling(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of a file in one of the two forms. Raises `TaskError` with the line's number."""
    try:
        found = read_tasks(path)
    except BadTask as error:
        raise TaskError(f"{error}.") from error
    return collected((_task(one) for one in found), path, leave_out)


def _task(one: InfillTask) -> Task:
    try:
        tests, setup = _tests(one) if one.tests.strip() else ((), "")
    except SyntaxError as error:
        raise TaskError(f"The tests of task {one.id} are no Python: {error}.") from error
    visible, hidden = visible_and_hidden(one.group or one.id, tests)
    public = "HumanEval/" in one.id
    return Task(
        id=one.id,
        kind=TaskKind.INFILL,
        prompt=one.prefix,
        suffix=one.suffix,
        visible_tests=visible,
        hidden_tests=hidden,
        setup=setup,
        entry_point=one.entry_point,
        reference=one.answer,
        language=one.language,
        path=one.path,
        group_id=one.group,
        tier=Tier(one.tier) if one.tier in tuple(Tier) else None,
        metadata=MappingProxyType({"tier": one.tier} if one.tier else {}),
        source=f"HumanEval-infilling {one.id.partition('/')[0]}" if public else "",
        licence="MIT" if public else "",
    )


def _tests(one: InfillTask) -> tuple[tuple[str, ...], str]:
    """(Tests, what they need)."""
    body = parsed(one.tests).body
    check = next((item for item in body if isinstance(item, ast.FunctionDef) and item.name == "check"), None)
    if check is None or not one.entry_point:
        return (one.tests.strip(),), ""
    called = check.args.args[0].arg
    single = single_tests(check.body, one.tests, called) if called == "candidate" else None
    tests = single or (ast.get_source_segment(one.tests, check) or ast.unparse(check),)
    own = [item for item in body if item is not check and bound_by(item) != {_ABOUT}]
    return tests, "\n".join(filter(None, (*map(ast.unparse, own), needed(_program(one), tests, one.entry_point))))


def _program(one: InfillTask) -> list[ast.stmt]:
    """The statements of the finished text; empty where there is no right answer to finish it with."""
    try:
        return parsed(one.program(one.answer)).body if one.answer is not None else []
    except SyntaxError:
        return []
