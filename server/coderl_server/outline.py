"""What a text defines and what it imports: the names, and for each the few lines that say how it is used. Pure.

Definitions come from the tree-sitter tree of the whole text: functions, classes with the heads of their methods, constants at
the top level. Bodies are left out, except those of three lines or less. Imports come line by line.

Not covered: names that are bound in any other way (loops, `with`, unpacking), definitions inside functions, imports over
several lines beyond the first 200 lines, re-exports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coderl_gate.grammars import parse
from coderl_gate.lexical import IDENTIFIER, IMPORTS

if TYPE_CHECKING:
    from tree_sitter import Node

WHOLE_LINES = 3
"""A definition of so few lines is shown whole."""
MOST_METHODS = 12
LINE_CHARS = 160
"""Longer lines are cut."""
IMPORT_LINES = 200
"""Imports are looked for in so many lines."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTIONS = _words(
    "function_definition function_declaration function_item method_definition method_declaration constructor_declaration "
    "generator_function_declaration method singleton_method function_signature"
)
_CLASSES = _words(
    "class_definition class_declaration abstract_class_declaration class_specifier struct_specifier enum_specifier struct_item "
    "enum_item trait_item interface_declaration enum_declaration struct_declaration record_declaration trait_declaration class "
    "module type_spec union_item"
)
_VALUES = _words("assignment variable_declarator const_item static_item type_item const_spec type_alias_declaration")
_BEHIND = _words(
    "export_statement decorated_definition expression_statement lexical_declaration variable_declaration type_declaration "
    "const_declaration namespace_declaration namespace_definition internal_module mod_item impl_item declaration_list "
    "class_body block field_declaration_list body_statement template_declaration type_definition"
)
"""Nodes that are looked into, besides the bodies of classes."""
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Definition:
    """One name and what it takes to use it. Lines are zero-based."""

    name: str
    line: int
    end_line: int
    text: str


def definitions(language: str, text: str) -> tuple[Definition, ...]:
    """The definitions of a text in its order; none where its language has no grammar. O(text): for bounded texts."""
    tree = parse(language, text)
    if tree is None:
        return ()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return tuple(_definition(node, name, lines) for node, name in _found(tree.root_node, 0))


def imports(text: str) -> tuple[tuple[int, str, frozenset[str]], ...]:
    """(Line, its text, the names on it) for each import among the first lines; an open bracket carries on to the next ones."""
    found: list[tuple[int, str, frozenset[str]]] = []
    lines = text.split("\n", IMPORT_LINES)[:IMPORT_LINES]
    number = 0
    while number < len(lines):
        first, whole = number, lines[number]
        if IMPORTS.match(whole):
            while whole.count("(") + whole.count("{") > whole.count(")") + whole.count("}") and number + 1 < len(lines):
                number += 1
                whole += "\n" + lines[number]
            found.append((first, whole.rstrip("\r"), frozenset(IDENTIFIER.findall(whole))))
        number += 1
    return tuple(found)


def _found(node: Node, depth: int) -> Iterator[tuple[Node, str]]:
    for child in node.named_children:
        name = _name(child) if child.type in _FUNCTIONS or child.type in _CLASSES or child.type in _VALUES else ""
        if name:
            yield child, name
        elif child.type in _BEHIND and depth < _DEEPEST:
            yield from _found(child, depth + 1)


def _name(node: Node) -> str:
    named = node.child_by_field_name("name") or node.child_by_field_name("left") or node.child_by_field_name("declarator")
    while named is not None and (inner := named.child_by_field_name("declarator")) is not None:
        named = inner  # C: the name stands inside of its declarator
    text = b"" if named is None or named.text is None else named.text
    found = text.decode("ascii")
    return found if IDENTIFIER.fullmatch(found) else ""


def _definition(node: Node, name: str, lines: list[str]) -> Definition:
    first, last = node.start_point[0], node.end_point[0]
    if last - first < WHOLE_LINES:
        shown = lines[first : last + 1]
    elif node.type in _CLASSES:
        members = _members(node, lines)
        shown = [*_head(node, lines), *members] if members else lines[first : min(last + 1, first + MOST_METHODS)]
    else:
        shown = _head(node, lines)
    return Definition(name, first, last, "\n".join(line.rstrip()[:LINE_CHARS] for line in shown if line.strip()))


def _head(node: Node, lines: list[str]) -> list[str]:
    """The lines up to where the body begins, with the mark of what is left out."""
    first, body = node.start_point[0], node.child_by_field_name("body")
    if body is None:
        return lines[first : first + 1]
    line, character = body.start_point
    if not lines[line][:character].strip() and line > first:
        head = lines[first:line]
    else:
        head = [*lines[first:line], lines[line][:character]]
    head = [one for one in head if one.strip() and not one.lstrip().startswith(("#", "//"))]
    return [*head[:-1], head[-1].rstrip() + (" ..." if node.type not in _CLASSES else "")] if head else lines[first : first + 1]


def _members(node: Node, lines: list[str]) -> list[str]:
    body = node.child_by_field_name("body")
    if body is None:
        return []
    members = [(child, name) for child, name in _found(body, _DEEPEST - 2) if child.type in _FUNCTIONS | _VALUES]
    public = [child for child, name in members if not name.startswith("_") or name == "__init__"]
    return [line for child in public[:MOST_METHODS] for line in _head(child, lines)]
