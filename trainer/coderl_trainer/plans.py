"""Tests taken apart: which calls of the candidate they make, and what remains of them around the calls.

A test is *direct* where every call of the candidate in it can be evaluated on its own: `assert f([1, 2]) == 3`, `not f(x)`,
`assert abs(f(2) - 1.5) < 1e-6`, several such asserts in a row. The text of each call then goes to the candidate's process (its
arguments may be any expression, objects of the candidate's own classes included), and what remains, with a name in the place
of each call, to the process of the tests. Every other test is *live*: it runs in the process of the tests, where the
candidate's name is a function that sends its arguments, plain data, out. Loops over cases, comprehensions whose variable is
an argument, and HumanEval's `def check(candidate)` are live.

Names that a test uses and neither it nor the setup makes come from the reference program; never from the candidate, which
could forge them. Without an entry point the candidate is whatever the tests call that nobody else makes or imports: name the
entry point where a test also calls a helper.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .types import Task

CANDIDATE: Final = "candidate"
CALL: Final = "_answer_{}"
"""The name that stands for a call in what remains of a direct test."""
_BUILTIN: Final = frozenset(dir(builtins)) | {"__name__", "__file__"}
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """One test, ready to run."""

    source: str
    """What the process of the tests runs."""
    calls: tuple[str, ...] = ()
    """Direct tests: the calls, as expressions for the candidate's process; the answer of number n is called `_answer_n`."""
    wanted: tuple[str, ...] = ()
    """Direct tests that only say what each call returns (`assert f(2) == [1, 4]`): literals, one for each call."""
    live: bool = False
    """The test calls the candidate while it runs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All tests of a task. Where `refusal` is not empty it says why the task cannot be judged."""

    tests: tuple[PlannedTest, ...] = ()
    """The visible ones, then the hidden ones."""
    names: tuple[str, ...] = ()
    """What the tests call the candidate, in the process of the tests."""
    entry_point: str = ""
    setup: tuple[str, ...] = ()
    """Programs that the process of the tests runs first."""
    candidate_setup: str = ""
    """What the candidate's process runs after the program: only where a direct call needs it."""
    refusal: str = ""


def plan(task: Task) -> Plan:
    """The plan of a task's tests; the same object for the same tests, for they are judged many times."""
    reference = None if task.reference is None else task.program(task.reference)
    return _plan((*task.visible_tests, *task.hidden_tests), task.setup, task.entry_point, reference)


@functools.lru_cache(maxsize=4096)
def _plan(tests: tuple[str, ...], setup: str, entry_point: str, reference: str | None) -> Plan:
    try:
        setup_tree = ast.parse(setup)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Plan(refusal=f"the setup is no Python: {error}")
    made = made_names(setup_tree)
    trees: list[ast.Module] = []
    for number, text in enumerate(tests, 1):
        try:
            trees.append(ast.parse(text.strip() if "\n" not in text.strip() else text))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return Plan(refusal=f"test {number} is no Python: {error}")
    names = (entry_point, CANDIDATE) if entry_point else tuple(sorted(_called(trees) - made - _imported(reference)))
    planned: list[PlannedTest] = []
    for number, tree in enumerate(trees, 1):
        test = _planned(tree, frozenset(names), entry_point)
        if test is None:
            return Plan(refusal=f"test {number} does not call {entry_point or 'anything of the program'}")
        planned.append(test)
    needed = set().union(_free([setup_tree]), *(_free([ast.parse(test.source)]) for test in planned))
    missing = {name for name in needed if not name.startswith(CALL.format(""))} - made - set(names)
    if missing and "*" not in made:
        found = made_names(_tree(reference))
        if missing - found:
            lacking = ", ".join(sorted(missing - found))
            return Plan(refusal=f"the tests use {lacking}, which neither they nor the setup nor the reference define")
    in_calls = {node.id for test in planned for call in test.calls for node in _loads(ast.parse(call))}
    setups = (*([reference] if missing and reference is not None else []), *([setup] if setup.strip() else []))
    return Plan(tuple(planned), names, entry_point, setups, setup if in_calls & made else "")


def _planned(tree: ast.Module, names: frozenset[str], entry_point: str) -> PlannedTest | None:
    """None where nothing of the candidate is named."""
    if entry_point and _defines_check(tree):
        tree.body.append(ast.parse(f"check({CANDIDATE})").body[0])
    if not any(node.id in names for node in _loads(tree)):
        return None
    if all(isinstance(statement, ast.Assert) for statement in tree.body):
        taker = _Taker(names, entry_point)
        remains = ast.parse(ast.unparse(tree))
        ast.fix_missing_locations(taker.visit(remains))
        if not any(node.id in names for node in _loads(remains)):
            return PlannedTest(ast.unparse(remains), tuple(taker.calls), _wanted(remains))
    return PlannedTest(ast.unparse(tree), live=True)


def _wanted(remains: ast.Module) -> tuple[str, ...]:
    """The literals, where all that remains is `_answer_0 == literal` (or the other way round), `_answer_1 == …` and so on."""
    literals: list[str] = []
    for number, statement in enumerate(remains.body):
        assert isinstance(statement, ast.Assert)
        match statement.test:
            case ast.Compare(ast.Name(name), [ast.Eq()], [literal]) | ast.Compare(literal, [ast.Eq()], [ast.Name(name)]):
                literals.append(ast.unparse(literal))
            case _:
                return ()
        if name != CALL.format(number) or not isinstance(statement.msg, ast.Constant | None) or not _is_literal(literals[-1]):
            return ()
    return tuple(literals)


def _is_literal(source: str) -> bool:
    try:
        ast.literal_eval(source)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


class _Taker(ast.NodeTransformer):
    """Takes the outermost calls of the candidate out of a test, where they do not depend on a variable of the test."""

    def __init__(self, names: frozenset[str], entry_point: str) -> None:
        self.calls: list[str] = []
        self._names = names
        self._entry_point = entry_point
        self._bound = 0

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace, or look inside."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._names:
            if self._bound or any(isinstance(part, ast.NamedExpr | ast.Await) for part in ast.walk(node)):
                return node  # inside a comprehension or lambda: it may run many times, or never
            if self._entry_point:
                node = _Renamed(self._entry_point).visit(node)
            self.calls.append(ast.unparse(node))
            return ast.Name(CALL.format(len(self.calls) - 1), ast.Load())
        if isinstance(node, _SCOPES):
            self._bound += 1
            self.generic_visit(node)
            self._bound -= 1
            return node
        if isinstance(node, ast.BoolOp | ast.IfExp):
            return node  # the right side may never run
        return self.generic_visit(node)


class _Renamed(ast.NodeTransformer):
    """`candidate` under its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Rename."""
        return ast.Name(self._name, node.ctx) if node.id == CANDIDATE else node


def _loads(tree: ast.AST) -> Iterator[ast.Name]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def _free(trees: Iterable[ast.AST]) -> set[str]:
    """Names that are read and neither made in the same tree nor builtin (scopes are not told apart)."""
    free: set[str] = set()
    for tree in trees:
        free |= {node.id for node in _loads(tree)} - made_names(tree) - _BUILTIN
    return free


def _called(trees: Iterable[ast.AST]) -> set[str]:
    """Free names that are called."""
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return _free(trees) & {node.func.id for node in calls if isinstance(node.func, ast.Name)}


def _imported(program: str | None) -> set[str]:
    tree = _tree(program)
    return made_names(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))


def made_names(tree: ast.AST) -> set[str]:
    """Names that a tree makes anywhere: assigned, defined, imported, parameters, exceptions."""
    made: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            made.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    return made


def _defines_check(tree: ast.Module) -> bool:
    """`check` is defined, and nothing at the top calls it."""
    called = any(node.id == "check" for line in tree.body if not isinstance(line, ast.FunctionDef) for node in _loads(line))
    return not called and any(isinstance(line, ast.FunctionDef) and line.name == "check" for line in tree.body)


def _tree(program: str | None) -> ast.Module:
    """Empty where it is no Python."""
    try:
        return ast.parse(program or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])
