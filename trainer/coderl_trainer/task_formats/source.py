"""Python source taken apart: what a test needs, and tests as single statements. Pure.

Tests are judged apart from the answer, so whatever they use besides the entry point has to come with them (`needed`).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Sequence

_SIDE_NOTES = (ast.Constant, ast.Name)
"""Expressions that do nothing as a statement: a docstring, a forgotten `print`."""


def parsed(source: str) -> ast.Module:
    """`ast.parse` without warnings: what an old data set escapes in its strings is no affair of ours. Raises `SyntaxError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def names_in(node: ast.AST) -> set[str]:
    """Every bare name that is used or bound in a tree."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def bound_by(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return set()


def needed(program: Sequence[ast.stmt], tests: Iterable[str], without: str) -> str:
    """The statements of a program that its tests use, directly or through one another, but not the function `without`."""
    wanted = set().union(*(names_in(parsed(test)) for test in tests)) - {without}
    keep: set[int] = set()
    while True:
        new = {index for index, one in enumerate(program) if index not in keep and bound_by(one) & wanted}
        if not new:
            return "\n".join(ast.unparse(program[index]) for index in sorted(keep))
        keep |= new
        wanted |= set().union(*(names_in(program[index]) for index in new)) - {without}


def single_tests(statements: Sequence[ast.stmt], source: str, called: str) -> tuple[str, ...] | None:
    """One text per assert, where there is nothing but asserts; None where one statement may depend on another.

    Asserts that do not name `called` are left out: they hold whatever the answer is.
    """
    asserts = [one for one in statements if isinstance(one, ast.Assert)]
    others = [one for one in statements if not isinstance(one, ast.Assert | ast.Pass)]
    if any(not (isinstance(one, ast.Expr) and isinstance(one.value, _SIDE_NOTES)) for one in others):
        return None
    return tuple(ast.get_source_segment(source, one) or ast.unparse(one) for one in asserts if called in names_in(one))
