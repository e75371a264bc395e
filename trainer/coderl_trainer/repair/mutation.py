"""One small bug in a program that was right, made from its text. Pure and deterministic.

Operators (after Jia and Harman 2011, "An Analysis and Survey of the Development of Mutation Testing", table 1): a comparison
becomes its neighbour (< and <=, == and != …), + and - change places, * and //, `and` and `or`; a whole number is one more;
`not` is left out; two arguments, the items of a pair, `True` and `False`, `min` and `max`, `lower` and `upper` change places.
What a mutant does is found out by running tests, not here.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_COMPARISONS: Final[Mapping[type[ast.cmpop], type[ast.cmpop]]] = MappingProxyType(
    {
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.In: ast.NotIn,
        ast.NotIn: ast.In,
        ast.Is: ast.IsNot,
        ast.IsNot: ast.Is,
    }
)
_ARITHMETIC: Final[Mapping[type[ast.operator], type[ast.operator]]] = MappingProxyType(
    {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
)
_SWAPPED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "min": "max",
        "max": "min",
        "any": "all",
        "all": "any",
        "lower": "upper",
        "upper": "lower",
        "strip": "rstrip",
        "split": "rsplit",
        "find": "rfind",
        "startswith": "endswith",
        "endswith": "startswith",
        "append": "extend",
        "keys": "values",
        "values": "keys",
        "floor": "ceil",
        "ceil": "floor",
    }
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed program."""

    name: str
    """Operator, line and place, for example `compare-3-11`; unique in its program."""
    text: str


def mutants(program: str, seed: str = "") -> list[Mutant]:
    """Every mutant of a program, in an order that follows from `seed` and the mutants alone; none for what is no Python."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError):
        return []
    found: dict[str, Mutant] = {}
    lines = program.splitlines(keepends=True)
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue  # Python 3.11 does not say where the parts of an f-string stand
        for operator, changed in _changes(node):
            assert isinstance(node, ast.expr)
            text = _with(lines, node, ast.unparse(changed))
            name = f"{operator}-{node.lineno}-{node.col_offset}"
            if text != program and _parses(text) and name not in found:
                found[name] = Mutant(name, text)
    return sorted(found.values(), key=lambda one: hashlib.sha256(f"{seed}\0{one.name}".encode()).digest())


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        changed = copy.deepcopy(node)
        changed.ops[0] = _COMPARISONS[type(node.ops[0])]()
        yield "compare", changed
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield "arithmetic", ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield "logic", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "number", ast.Constant(node.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "truth", ast.Constant(not node.value)
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
        yield "pair", ast.Tuple(node.elts[::-1], node.ctx)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
        yield "name", ast.Call(ast.Name(_SWAPPED[node.func.id]), node.args, node.keywords)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SWAPPED:
        other = ast.Attribute(node.func.value, _SWAPPED[node.func.attr])
        yield "method", ast.Call(other, node.args, node.keywords)
    if len(node.args) > 1:
        yield "arguments", ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)


def _with(lines: list[str], node: ast.expr, text: str) -> str:
    """The program with `text` in the place of an expression. Columns of `ast` are bytes."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last].encode()[node.end_col_offset :].decode()
    return "".join(lines[:first]) + head + text + tail + "".join(lines[last + 1 :])


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True
