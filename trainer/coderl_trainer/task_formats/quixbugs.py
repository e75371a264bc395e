"""QuixBugs (Lin et al. 2017, "QuixBugs: A Multi-Lingual Program Repair Benchmark") as repair tasks for a completion model.

The prompt shows the description and the wrong function as a comment, then the first line of the right one; the answer is the
body. `metadata["before"]` is the same program with the wrong body in it: what the lines of an answer change from (the part
`similarity` of a reward), and `metadata["description"]` is what it should do. As in the data's own tests, tuples and lists are
the same and numbers agree within 0.01 (`same`, in `Task.setup`).
Generators are called through a function behind the answer that lists what they give. `knapsack` and `levenshtein` are right but
slow (over 8 s on some cases); the validator says so.
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.visibility import visible_and_hidden

from .lines import collected, field_of, json_lines
from .source import parsed

_SAME = '''\
from math import inf, nan


def same(answer, expected):
    """Whether two values agree: sequences item by item, numbers within 0.01."""
    if isinstance(expected, (list, tuple)):
        alike = isinstance(answer, (list, tuple)) and len(answer) == len(expected)
        return alike and all(map(same, answer, expected))
    if isinstance(expected, float) or isinstance(answer, float):
        return isinstance(answer, (int, float)) and abs(answer - expected) < 0.01
    return answer == expected
'''
_LISTED = "listed"
"""The function that lists what a generator gives."""


def load_quixbugs(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of a QuixBugs file. Raises `TaskError` with the line's number."""
    return collected((_task(row, where) for where, row in json_lines(path)), path, leave_out)


def _task(row: dict[str, Any], where: str) -> Task:
    name, called = field_of(row, "task_id", str, where), field_of(row, "entry_point", str, where)
    buggy, correct = field_of(row, "buggy", str, where), field_of(row, "correct", str, where)
    try:
        imports, function = _function(correct, called)
        wrong_function = _function(buggy, called)[1]
        wrong = ast.get_source_segment(buggy, wrong_function) or ""
        description = _description(buggy)
    except (SyntaxError, LookupError) as error:
        raise TaskError(f"{where}: {error}.") from error
    stem = imports + "\n".join(correct.splitlines()[function.lineno - 1 : function.body[0].lineno - 1]) + "\n"
    lazy = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
    entry = _LISTED if lazy else called
    tests = tuple(_case(case, entry, where) for case in field_of(row, "cases", list, where))
    visible, hidden = visible_and_hidden(name, tests)
    suffix = f"\n\ndef {_LISTED}(*args):\n    return list({called}(*args))\n" if lazy else None
    return Task(
        id=name,
        kind=TaskKind.REPAIR,
        prompt=f"{_comment(description)}#\n# This version is wrong:\n#\n{_comment(wrong)}#\n# The right version:\n\n{stem}",
        stem=stem,
        suffix=suffix,
        visible_tests=visible,
        hidden_tests=hidden,
        setup=_SAME,
        entry_point=entry,
        reference=_body(correct, function),
        source="QuixBugs",
        licence="MIT",
        metadata=MappingProxyType(
            {"before": f"{stem}{_body(buggy, wrong_function)}{suffix or ''}", "description": description}
        ),
    )


def _function(source: str, name: str) -> tuple[str, ast.FunctionDef]:
    """(Imports above it, the function)."""
    body = parsed(source).body
    for one in body:
        if isinstance(one, ast.FunctionDef) and one.name == name:
            imports = [ast.unparse(item) for item in body if isinstance(item, ast.Import | ast.ImportFrom)]
            return "".join(f"{text}\n" for text in imports) + ("\n\n" if imports else ""), one
    raise LookupError(f"there is no function {name}")


def _body(source: str, function: ast.FunctionDef) -> str:
    """The lines below the function's head."""
    return "\n".join(source.splitlines()[function.body[0].lineno - 1 : function.end_lineno]) + "\n"


def _description(source: str) -> str:
    """The text behind the function."""
    texts = [
        one.value.value.strip()
        for one in parsed(source).body
        if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
    ]
    return texts[-1] if texts else ""


def _case(case: Any, entry: str, where: str) -> str:
    if not (isinstance(case, dict) and isinstance(case.get("args"), list) and "expected" in case):
        raise TaskError(f"{where}: a case needs `args`, a list, and `expected`.")
    return f"assert same({entry}({', '.join(map(repr, case['args']))}), {case['expected']!r})"


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
