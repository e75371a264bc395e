"""The tree-sitter grammars: one wheel per language, imported when the first text of that language is parsed.

A grammar whose wheel is not installed is no error: its language has no syntax features, they are missing.

Every text is parsed with one byte per code point (`one_byte_each`), so that offsets in a tree are offsets in the text. For that
a character beyond ASCII becomes an underscore, which reads as a letter: names, strings and comments keep their places; code
that uses such characters as operators does not.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Parser, Tree

_WHEELS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "python": ("tree_sitter_python", "language"),
        "javascript": ("tree_sitter_javascript", "language"),
        "javascriptreact": ("tree_sitter_javascript", "language"),
        "typescript": ("tree_sitter_typescript", "language_typescript"),
        "typescriptreact": ("tree_sitter_typescript", "language_tsx"),
        "go": ("tree_sitter_go", "language"),
        "rust": ("tree_sitter_rust", "language"),
        "java": ("tree_sitter_java", "language"),
        "c": ("tree_sitter_c", "language"),
        "cpp": ("tree_sitter_cpp", "language"),
        "csharp": ("tree_sitter_c_sharp", "language"),
        "ruby": ("tree_sitter_ruby", "language"),
        "php": ("tree_sitter_php", "language_php"),
    }
)
"""LSP language id → (module, function that gives the grammar)."""
LANGUAGES: tuple[str, ...] = tuple(_WHEELS)
"""The language ids that have a grammar, where its wheel is installed."""

_FOREIGN = re.compile(r"[^\x00-\x7f]")
_LONE_RETURN = re.compile(r"\r(?!\n)")


@cache
def grammar(language: str) -> Language | None:
    """The grammar of an LSP language id; None where there is none, or its wheel is not installed."""
    if language not in _WHEELS:
        return None
    module, function = _WHEELS[language]
    try:
        from tree_sitter import Language

        return Language(getattr(importlib.import_module(module), function)())
    except ImportError:
        return None


def parser(language: str) -> Parser | None:
    """A new parser for a language; None where it has no grammar."""
    known = grammar(language)
    if known is None:
        return None
    from tree_sitter import Parser

    return Parser(known)


def parse(language: str, text: str) -> Tree | None:
    """The tree of a text; None where the language has no grammar. O(text): for bounded texts."""
    made = parser(language)
    return None if made is None else made.parse(one_byte_each(text))


def one_byte_each(text: str) -> bytes:
    """The text with one byte per code point; a `\\r` that is no half of a `\\r\\n` ends a line, so it becomes `\\n`."""
    if not text.isascii():
        text = _FOREIGN.sub("_", text)
    if "\r" in text:
        text = _LONE_RETURN.sub("\n", text)
    return text.encode("ascii")
