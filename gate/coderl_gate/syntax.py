"""What a place means in a syntax tree: the scope around it, how deep, how far in, whether the parser had to mend its line.

Pure functions of a tree-sitter tree and a place; the language server calls them with its incremental tree, an imported log with
the text before the cursor. The node names of all grammars are read by one table, so a scope means the same in every language.

Code that is being typed is broken code: an unfinished call has no argument list in the tree but an ERROR node. There the tokens
before the place are read instead: an open bracket after a name is a call, `def` or `class` and a colon open a body.

Not covered: which of several nested brackets inside an ERROR node belongs to which call beyond simple nesting; macros that
change the grammar; code in strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from coderl_store.snapshot import Scope, Syntax

from .grammars import one_byte_each, parse
from .lexical import language_group

if TYPE_CHECKING:
    from tree_sitter import Node, Tree

PREFIX_CHARS = 30_000
"""How much of a text before the cursor `syntax_before` parses."""
_DEEPEST = 300
"""How many nodes above each other are looked at."""
_ERROR_TOKENS = 200
_ERROR_VISITS = 100
_NODES: Mapping[Scope, str] = MappingProxyType(
    {
        Scope.CLASS: "class_definition class_declaration abstract_class_declaration class_specifier struct_specifier "
        "union_specifier enum_specifier struct_item enum_item impl_item trait_item mod_item interface_declaration "
        "enum_declaration struct_declaration record_declaration trait_declaration class singleton_class namespace_definition "
        "namespace_declaration internal_module struct_type interface_type",
        Scope.FUNCTION: "function_definition function_declaration function_item method_definition method_declaration "
        "constructor_declaration compact_constructor_declaration destructor_declaration arrow_function function_expression "
        "generator_function generator_function_declaration lambda lambda_expression closure_expression func_literal "
        "anonymous_function anonymous_method_expression local_function_statement method singleton_method",
        Scope.BLOCK: "if_statement for_statement while_statement try_statement with_statement match_statement for_in_statement "
        "do_statement switch_statement for_range_loop enhanced_for_statement try_with_resources_statement switch_expression "
        "if_expression for_expression while_expression match_expression loop_expression unsafe_block foreach_statement "
        "using_statement lock_statement synchronized_statement expression_switch_statement type_switch_statement "
        "select_statement if unless while until for case begin do_block",
        Scope.PARAMETERS: "parameters lambda_parameters formal_parameters parameter_list closure_parameters block_parameters "
        "method_parameters inferred_parameters bracketed_parameter_list",
        Scope.ARGUMENTS: "argument_list arguments annotation_argument_list attribute_argument_list token_tree",
        Scope.COLLECTION: "list dictionary set tuple list_comprehension dictionary_comprehension set_comprehension "
        "generator_expression subscript parenthesized_expression array object array_expression tuple_expression literal_value "
        "initializer_list array_initializer initializer_expression subscript_expression index_expression "
        "array_creation_expression array_access hash element_reference field_initializer_list bracketed_argument_list "
        "interpolation template_substitution string_interpolation",
        Scope.STRING: "string string_literal template_string interpreted_string_literal raw_string_literal char_literal "
        "character_literal rune_literal encapsed_string heredoc heredoc_body nowdoc verbatim_string_literal "
        "interpolated_string_expression",
        Scope.COMMENT: "comment line_comment block_comment html_comment",
        Scope.IMPORT: "import_statement import_from_statement future_import_statement import_declaration use_declaration "
        "preproc_include using_directive using_declaration namespace_use_declaration package_clause package_declaration",
    }
)
_SCOPES: Mapping[str, Scope] = MappingProxyType({name: scope for scope, names in _NODES.items() for name in names.split()})
_BODY_NAMES = (
    "block statement_block compound_statement class_body declaration_list field_declaration_list body_statement statement_list "
    "interface_body enum_body constructor_body block_body module program source_file translation_unit compilation_unit"
)
BODIES = frozenset(_BODY_NAMES.split())
"""Node types that hold statements, in all grammars."""
_OUTER = frozenset((Scope.CLASS, Scope.FUNCTION, Scope.BLOCK))
_BRACKETS = frozenset((Scope.PARAMETERS, Scope.ARGUMENTS, Scope.COLLECTION))
_OPENERS, _CLOSERS = frozenset("([{"), frozenset(")]}")
_WORDS: Mapping[str, Scope] = MappingProxyType(
    {
        **dict.fromkeys(("def", "fn", "func", "function"), Scope.FUNCTION),
        **dict.fromkeys(("class", "struct", "impl", "trait", "interface", "enum", "namespace"), Scope.CLASS),
        **dict.fromkeys(("if", "elif", "else", "for", "while", "try", "except", "finally", "with", "match"), Scope.BLOCK),
    }
)
_IMPORT_WORDS = frozenset(("import", "from", "use", "using", "#include", "package", "require"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the cursor is; offsets in bytes of the tree's source, which are code points."""

    source: bytes | bytearray
    offset: int
    row: int
    indent: int
    """Column of the first sign of the line; of the cursor where the line is blank before it."""
    indented: bool
    """Bodies are told by indentation."""


@dataclass(slots=True)
class _Level:
    """A construct around the place."""

    scope: Scope
    row: int
    column: int
    index: int
    span: tuple[int, int] | None
    """First byte and the byte behind the last; None where the tree does not hold the construct as a node."""


def syntax_before(language: str, prefix: str) -> Syntax | None:
    """The syntax at the end of a text, of which nothing after that is known; None where the language has no grammar.

    Only the last `PREFIX_CHARS` characters are parsed, from a line's beginning.
    """
    if len(prefix) > PREFIX_CHARS:
        prefix = prefix[-PREFIX_CHARS:].partition("\n")[2]
    tree = parse(language, prefix)
    if tree is None:
        return None
    source = one_byte_each(prefix)
    row, column = source.count(b"\n"), len(source) - source.rfind(b"\n") - 1
    return syntax_at(tree, source, (row, column), len(source), language, whole=False)


def syntax_at(
    tree: Tree, source: bytes | bytearray, point: tuple[int, int], offset: int, language: str, *, whole: bool = True
) -> Syntax:
    """The syntax at `point` (row, column) of `tree`, which is byte `offset` of its `source` (see `coderl_gate.grammars`).

    `whole`: the source goes on after the place as the document does; without it what depends on that is missing.
    """
    place = _place(source, point, offset, language_group(language) == "indented")
    levels, index = _levels(tree, place)
    scope = levels[-1].scope if levels else Scope.MODULE
    if scope in _BRACKETS:
        index = levels[-1].index
    definition = next((level for level in reversed(levels) if level.scope in (Scope.CLASS, Scope.FUNCTION)), None)
    share = None
    if whole and definition is not None and definition.span is not None:
        start, end = definition.span
        share = min(1.0, max(0.0, (offset - start) / (end - start))) if end > start else 0.0
    return Syntax(
        scope=scope,
        depth=sum(level.scope in _OUTER for level in levels),
        index=index,
        share=share,
        error=_mended(tree, place) if whole else None,
    )


@lru_cache(maxsize=16)
def mended_places(language: str, text: str) -> int | None:
    """How many places of a bounded text the parser had to mend (errors and missing tokens); None without a grammar.

    Remembered for a few texts: while a suggestion is typed through, the text with it stays the same from key to key.
    """
    tree = parse(language, text)
    if tree is None:
        return None
    waiting, found = [tree.root_node], 0
    while waiting:
        node = waiting.pop()
        found += node.is_error or node.is_missing
        if node.has_error:
            waiting += node.children
    return found


def _place(source: bytes | bytearray, point: tuple[int, int], offset: int, indented: bool) -> _Place:
    row, column = point
    head = source[max(0, offset - column) : offset]
    return _Place(source, offset, row, len(head) - len(head.lstrip()), indented)


def _levels(tree: Tree, place: _Place) -> tuple[list[_Level], int]:
    """The constructs around the place, outermost first, and how many statements lie before it in the innermost body."""
    anchor = _anchor(place)
    levels: list[_Level] = []
    index = 0
    cursor = tree.walk()
    for _ in range(_DEEPEST):
        node = cursor.node
        assert node is not None
        known = len(levels)
        if node.is_error:
            levels += _broken(node, place)
        if levels and levels[-1].scope is Scope.COMMENT:
            return levels, index
        scope = _SCOPES.get(node.type) if node.is_named and node.start_byte < place.offset else None
        body = node.type in BODIES
        kept = scope is not None and _holds(scope, node, place)
        child = cursor.goto_first_child_for_byte(anchor)
        if kept and scope is not None:
            items = 0 if child is None else child // 2
            levels.append(_Level(scope, node.start_point[0], node.start_point[1], items, (node.start_byte, node.end_byte)))
        if len(levels) > known and any(level.scope in _OUTER for level in levels[known:]):
            index = 0
        if child is None:
            return levels, index
        inner = cursor.node
        assert inner is not None
        if body and _goes_on(node, place):
            over = inner.end_byte <= place.offset and inner.end_point[0] < place.row
            index = max(0, child + over - (place.source[node.start_byte : node.start_byte + 1] == b"{"))
        if inner.start_byte > anchor:
            return levels, index
    return levels, index


def _goes_on(body: Node, place: _Place) -> bool:
    """Whether the place is still in a body that contains its anchor."""
    if place.indented:
        return body.start_point[1] <= place.indent
    return body.end_byte > place.offset or place.source[body.end_byte - 1 : body.end_byte] != b"}"


def _anchor(place: _Place) -> int:
    """The byte of the last sign before the place."""
    source, anchor = place.source, place.offset - 1
    while anchor > 0 and source[anchor] in b" \t\r\n":
        anchor -= 1
    return max(0, anchor)


def _holds(scope: Scope, node: Node, place: _Place) -> bool:
    """Whether the place is inside a node that contains its anchor."""
    if place.indented and scope in _OUTER:
        return node.start_point[0] < place.row and node.start_point[1] < place.indent
    if node.end_byte > place.offset:
        return True
    last = place.source[node.end_byte - 1 : node.end_byte]
    if scope is Scope.COMMENT:
        return last != b"/" and node.end_point[0] == place.row and place.offset > node.start_byte
    if scope is Scope.IMPORT:
        return node.end_point[0] == place.row and last != b";"
    if scope is Scope.STRING:
        return last not in b"\"'`" or node.end_byte - node.start_byte < 2
    return last not in b")]};" or node.end_byte == node.start_byte


def _broken(node: Node, place: _Place) -> list[_Level]:
    """The constructs that the tokens of an ERROR node leave open before the place."""
    found: list[_Level] = []
    pending: _Level | None = None
    before: Node | None = None
    for token in _tokens(node, place.offset):
        kind, (row, column) = token.type, token.start_point
        if kind in _OPENERS:
            scope = _bracket(kind, pending, before, token, place)
            found.append(_Level(scope, row, column, 0, None))
        elif kind in _CLOSERS:
            while found and found[-1].scope not in _BRACKETS and place.indented:
                found.pop()
            if found:
                found.pop()
        elif kind == "," and found:
            found[-1].index += 1
        elif kind in _WORDS and not token.is_named:
            pending = _Level(_WORDS[kind], row, column, 0, None)
        elif kind in _IMPORT_WORDS and row == place.row and not (found and found[-1].scope in _BRACKETS):
            found.append(_Level(Scope.IMPORT, row, column, 0, None))
        elif kind == ":" and pending is not None and place.indented and not (found and found[-1].scope in _BRACKETS):
            found.append(pending)
            pending = None
        before = token
    if place.indented:
        return [
            level for level in found if level.scope not in _OUTER or (level.row < place.row and level.column < place.indent)
        ]
    return found


def _bracket(kind: str, pending: _Level | None, before: Node | None, token: Node, place: _Place) -> Scope:
    """What an open bracket in an ERROR node opens."""
    if pending is not None and kind == "(" and pending.scope is Scope.FUNCTION:
        return Scope.PARAMETERS
    if kind == "{" and not place.indented and pending is not None:
        return pending.scope
    if kind == "(" and before is not None and before.is_named and before.end_byte == token.start_byte:
        return Scope.ARGUMENTS
    return Scope.COLLECTION


def _tokens(node: Node, offset: int) -> Iterator[Node]:
    """The last children of a node that begin before `offset`."""
    count = node.child_count
    for position in range(max(0, count - _ERROR_TOKENS), count):
        child = node.child(position)
        if child is None or child.start_byte >= offset:
            return
        yield child


def _mended(tree: Tree, place: _Place) -> bool:
    """Whether an ERROR or a missing token lies on the line of the place."""
    waiting, visits = [tree.root_node], 0
    while waiting and visits < _ERROR_VISITS:
        node = waiting.pop()
        visits += 1
        if (node.is_error or node.is_missing) and place.row in (node.start_point[0], node.end_point[0]):
            return True
        if node.has_error:
            waiting += [child for child in node.children if child.start_point[0] <= place.row <= child.end_point[0]]
    return False
