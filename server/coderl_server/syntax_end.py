"""Where the statement or body that a place has begun is complete, by a syntax tree: a stop rule for the generator.

`StopRule`s are the generator's; the trees are the gate's (`coderl_gate.grammars`), which the generator may not know. So the
server hands this one in. It only looks when a line of the text is complete, and parses the end of the document before the place
with the text so far: `TAIL_CHARS` and the text, a millisecond or two. A line that ended nothing once ends nothing later.

Complete is

- a statement that was begun on the place's line, where its last line is written and nothing in it is broken;
- a body, where the bracket or word that closes it is written; where nothing has to be written to close it (in Python, or if the
  bracket stands below already), where its last statement leaves it (`return`, `raise`, `break`, `continue` and the like).

Nothing is said, and the generator's own rules decide, where the tree is broken, where a statement may go on below without a
sign (JavaScript without semicolons, a method chain in Ruby), at the top level before anything is begun, and without a grammar.

The idea is Copilot's (`microsoft/vscode-copilot-chat`: a block parser ends the stream) and Cody's (`sourcegraph/cody`:
truncation by tree-sitter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from coderl_gate.grammars import one_byte_each, parser
from coderl_gate.syntax import BODIES
from coderl_generator.extract import Mode
from coderl_generator.stop_rules import Reason, StopRule

from .documents import Place

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

TAIL_CHARS: Final = 4_000
"""How much of the text before the place is parsed, from the beginning of a line on."""

AHEAD_CHARS: Final = 2_000
"""How much of the text below the place is parsed with it, where that begins with a closing brace."""

_LEAVES = frozenset(
    {
        "return_statement", "raise_statement", "throw_statement", "break_statement", "continue_statement", "pass_statement",
        "return_expression", "break_expression", "continue_expression", "return", "throw_expression",
    }
)  # fmt: skip
_SEMICOLON = frozenset(
    {"javascript", "javascriptreact", "typescript", "typescriptreact", "java", "c", "cpp", "csharp", "rust", "php"}
)
"""Languages in which a simple statement is known to be over by its semicolon."""
_WORDS = frozenset({"ruby"})
_HANDLERS = frozenset({"except_clause", "except_group_clause", "finally_clause", "catch_clause"})
_STATEMENTS = ("_declaration", "_definition", "_statement", "function_item")
"""Ends of node names that are statements also where what lies around them is broken."""
_COMPOUND_ENDINGS = ("_definition", "_clause")
_COMPOUND = frozenset(
    {"if_statement", "for_statement", "while_statement", "try_statement", "with_statement", "match_statement"}
)


def end_rules(place: Place, mode: Mode) -> Sequence[StopRule]:
    """The rules for a place: one in block mode where its language has a grammar and nothing follows on the line, else none."""
    if mode is not Mode.BLOCK or place.line_suffix.strip():
        return ()
    known = parser(place.language)
    return () if known is None else (SyntaxEnd(known, place.language, place.prefix, place.suffix),)


class SyntaxEnd:
    """See the module. Follows one generation: `cut` is asked with ever longer texts."""

    def __init__(self, known: Parser, language: str, prefix: str, suffix: str = "") -> None:
        self._parser = known
        self._language = language
        tail = prefix[-TAIL_CHARS:]
        if len(prefix) > TAIL_CHARS:
            tail = tail.partition("\n")[2]
        self._head = _header(tail, language)
        self._tail = tail
        below = suffix.partition("\n")[2][:AHEAD_CHARS]
        self._below = below if below.lstrip()[:1] == "}" else ""
        """What follows, where it closes the body first."""
        self._seen = ""
        """Complete lines that were looked at, their line ends included."""
        self._at: int | None = None

    @property
    def reason(self) -> Reason:
        return Reason.SYNTAX

    def cut(self, text: str) -> int | None:
        if not text.startswith(self._seen):
            self._seen, self._at = "", None
        while self._at is None and (end := text.find("\n", len(self._seen))) >= 0:
            if text[len(self._seen) : end].strip() and self._complete(text[:end]):
                self._at = end
            self._seen = text[: end + 1]
        return self._at

    def _complete(self, text: str) -> bool:
        """Whether what the place began is complete at the end of `text`, which is the end of a line."""
        before = self._head + self._tail
        begun, first = len(before.rstrip()), len(before) + len(text) - len(text.lstrip())
        end = len(before) + len(text.rstrip())
        source = one_byte_each(before + text + "\n")
        node = _begun(self._parser.parse(source).root_node, first, begun)
        if self._below and (node is None or node.has_error):
            node = _begun(self._parser.parse(source + one_byte_each(self._below)).root_node, first, begun)
            return node is not None and not node.has_error and node.end_byte > end and _is_left(node, begun, end)
        if node is None or node.has_error or not first < node.end_byte <= end or source[node.end_byte : end].strip(b" \t\r\n;"):
            return False
        if self._language == "python":
            return _python_ends(node, end)
        last = source[end - 1 : end]
        if node.type.startswith("try") and not any(child.type in _HANDLERS for child in node.children):
            return False
        if self._language in _WORDS:
            return source[:end].endswith((b"end", b"}"))
        return last in b"};" or self._language not in _SEMICOLON


def _header(tail: str, language: str) -> str:
    """What makes indented Python begin inside something; a statement of its own line."""
    first = next((line for line in tail.split("\n") if line.strip()), "")
    return "if 1:\n" if language == "python" and first[:1] in (" ", "\t") else ""


def _begun(root: Node, first: int, begun: int) -> Node | None:
    """The innermost statement that begins before the place and holds the first sign of the text; None at the top level."""
    node = root.descendant_for_byte_range(first, first + 1)
    while node is not None and node.parent is not None:
        whole = node.parent.type in BODIES or (node.parent.is_error and node.type.endswith(_STATEMENTS))
        if node.start_byte < begun and whole:
            return node
        node = node.parent
    return None


def _is_left(node: Node, begun: int, end: int) -> bool:
    """Whether a body in `node` that begins before byte `begun` is left by the statement that ends at byte `end`."""
    last = node.descendant_for_byte_range(end - 1, end)
    while last is not None and last.start_byte > node.start_byte:
        if last.end_byte not in (end, end - 1):
            return False
        kind = last.named_children[0].type if last.type == "expression_statement" and last.named_children else last.type
        parent = last.parent
        if kind in _LEAVES and parent is not None and parent.type in BODIES:
            outer = parent.parent
            body = outer if outer is not None and outer.type in BODIES else parent
            return body.start_byte < begun
        last = parent
    return False


def _python_ends(node: Node, end: int) -> bool:
    if node.type == "decorated_definition":
        node = node.children[-1]
    if not (node.type in _COMPOUND or node.type.endswith(_COMPOUND_ENDINGS)):
        return node.end_byte == end
    if node.type == "try_statement" and not any(child.type in _HANDLERS for child in node.children):
        return False
    while node.type != "block":
        inner = node.named_children[-1] if node.named_children else None
        if inner is None or not (inner.type == "block" or inner.type.endswith("_clause")):
            return False
        node = inner
    last = next((child for child in reversed(node.named_children) if child.type != "comment"), None)
    return last is not None and last.type in _LEAVES and last.end_byte == end
