"""What a line of code looks like, without a parser: character classes, comment and string state, identifiers.

A cheap lexical scan by language family, for features only. It covers strings and comments that begin on the line it is given;
it does not know strings or block comments that began on an earlier line, regular-expression literals, nested template
strings, or here-documents. An unknown language is read as one with `#` and `//` comments.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Group = Literal["indented", "braces", "markup", "prose", "shell", "other"]

OPEN_BRACKETS = frozenset("([{")
CLOSE_BRACKETS = frozenset(")]}")
OPERATORS = frozenset("+-*/%=<>!&|^~?@")
QUOTES = frozenset("\"'`")

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PIECE = re.compile(r"\w+|[^\w\s]")
PRINTS = re.compile(r"\s*(?:print|println|printf|console\.\w+|log\w*\.\w+|System\.out|fmt\.P|echo|puts|std::cout)\b")
IMPORTS = re.compile(r"\s*(?:import|from|using|use|require|include|#\s*include|package|library|export\s+\*)\b")
ASSIGNMENT = re.compile(r"(?<![=!<>])=(?!=)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BLOCK_KEYWORDS = _words(
    "if elif else for while with try except finally def class switch case match do fn func function struct impl interface "
    "enum trait async catch loop module namespace lambda"
)
VALUE_KEYWORDS = _words("return in and or not is yield await raise throw throws new del assert from import as of")
OTHER_KEYWORDS = _words(
    "break continue pass let var const static public private protected final void int float bool str None null true false True "
    "False self this super global nonlocal type typedef extends implements export default"
)
KEYWORDS = BLOCK_KEYWORDS | VALUE_KEYWORDS | OTHER_KEYWORDS

_BUILTINS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "python": frozenset(dir(builtins)) | _words("self cls __file__ nonlocal"),
        "javascript": _words(
            "console document window globalThis Math JSON Object Array String Number Boolean Date RegExp Map Set "
            "Promise Symbol Error TypeError parseInt parseFloat isNaN undefined NaN Infinity require module exports process "
            "fetch setTimeout setInterval clearTimeout clearInterval arguments typeof instanceof delete async"
        ),
        "go": _words(
            "append cap close complex copy delete len make panic print println recover string int int64 uint byte rune error "
            "nil iota float64 range chan go defer map select any"
        ),
        "rust": _words(
            "Some None Ok Err Vec String Option Result Box println print format vec panic assert i32 i64 u8 u32 u64 usize "
            "f64 str mut pub ref where unsafe crate dyn move"
        ),
        "java": _words(
            "System String Integer Long Double Boolean Object Math List Map Set ArrayList HashMap Exception Override long "
            "double boolean byte char short instanceof synchronized abstract throws"
        ),
        "c": _words(
            "printf fprintf sprintf scanf malloc free calloc realloc memcpy memset strlen strcmp sizeof NULL char long double "
            "short unsigned signed size_t stdout stderr std cout cin endl string vector map auto template "
            "typename operator goto"
        ),
    }
)
_SAME_BUILTINS: Mapping[str, str] = MappingProxyType(
    {**dict.fromkeys(("javascriptreact", "typescript", "typescriptreact"), "javascript"), "cpp": "c"}
)


def _families() -> Mapping[str, Group]:
    families: dict[Group, str] = {
        "indented": "python coffeescript fsharp haskell nim elm",
        "braces": "c cpp csharp java javascript javascriptreact typescript typescriptreact go rust kotlin scala swift php dart "
        "objective-c objective-cpp groovy zig solidity cuda-cpp",
        "markup": "html xml css scss less sass json jsonc yaml toml ini dockercompose svg vue svelte handlebars properties",
        "prose": "markdown plaintext latex tex restructuredtext asciidoc git-commit mdx",
        "shell": "shellscript sh bash zsh fish powershell bat makefile dockerfile",
    }
    return MappingProxyType({language: group for group, text in families.items() for language in text.split()})


_GROUPS = _families()
_NO_COMMENT = frozenset(("markdown", "plaintext", "json", "git-commit", "restructuredtext", "asciidoc"))
_DASHES = frozenset(("sql", "lua", "haskell", "elm", "ada", "vhdl"))
_PERCENT = frozenset(("latex", "tex", "matlab", "erlang", "prolog"))
_SEMICOLON = frozenset(("lisp", "clojure", "scheme", "racket", "ini", "asm"))
_HASH = frozenset(("python", "ruby", "perl", "r", "julia", "yaml", "toml", "elixir", "nim", "coffeescript", "properties"))

_SCAN_SLASHES = re.compile(r"\\.|//|/\*|\*/|[\"'`()\[\]{}]")
_SCAN_HASH = re.compile(r"\\.|\"\"\"|'''|#|[\"'`()\[\]{}]")
_SCAN_DASHES = re.compile(r"\\.|--|[\"'()\[\]{}]")
_SCAN_PERCENT = re.compile(r"\\.|%|[()\[\]{}]")
_SCAN_SEMICOLON = re.compile(r"\\.|;|[\"()\[\]{}]")
_SCAN_MARKUP = re.compile(r"<!--|-->|/\*|\*/|[\"()\[\]{}]")
_SCAN_PLAIN = re.compile(r"\\.|[\"()\[\]{}]")
_SCAN_UNKNOWN = re.compile(r"\\.|//|#|[\"'`()\[\]{}]")

_CLOSES_COMMENT: Mapping[str, str] = MappingProxyType({"/*": "*/", "<!--": "-->"})
_LINE_COMMENTS = frozenset(("//", "#", "--", "%", ";"))


@dataclass(frozen=True, slots=True)
class LineScan:
    """State at the end of a piece of one line."""

    string: str
    """The quote that is still open, else empty."""
    comment: bool
    depth: int
    """Brackets opened minus closed, outside strings and comments."""
    lowest: int
    """The lowest value `depth` took, ≤ 0: how many brackets were closed that the piece did not open."""


def language_group(language: str) -> Group:
    """Family of an LSP language id; `other` where it is unknown."""
    return _GROUPS.get(language, "other")


def builtin_names(language: str) -> frozenset[str]:
    """Names that need no definition in a language, as far as they are listed here; empty for one that is not."""
    return _BUILTINS.get(_SAME_BUILTINS.get(language, language), frozenset())


def _scanner(language: str) -> re.Pattern[str]:
    if language in _HASH or _GROUPS.get(language) == "shell":
        return _SCAN_HASH
    if _GROUPS.get(language) == "braces" or language in ("css", "scss", "less", "jsonc"):
        return _SCAN_SLASHES
    if language in _NO_COMMENT:
        return _SCAN_PLAIN
    if language in _DASHES:
        return _SCAN_DASHES
    if language in _PERCENT:
        return _SCAN_PERCENT
    if language in _SEMICOLON:
        return _SCAN_SEMICOLON
    if _GROUPS.get(language) == "markup":
        return _SCAN_MARKUP
    return _SCAN_UNKNOWN


def scan(text: str, language: str, string: str = "", comment: bool = False) -> LineScan:
    """Walk over `text`, which lies on one line, starting inside `string` (its quote) or in a comment where told so."""
    depth = lowest = 0
    closes = ""
    for match in _scanner(language).finditer(text):
        sign = match.group()
        if comment:
            if closes and sign == closes:
                comment, closes = False, ""
        elif string:
            if sign == string:
                string = ""
        elif sign in OPEN_BRACKETS:
            depth += 1
        elif sign in CLOSE_BRACKETS:
            depth -= 1
            lowest = min(lowest, depth)
        elif sign in _LINE_COMMENTS or sign in _CLOSES_COMMENT:
            comment, closes = True, _CLOSES_COMMENT.get(sign, "")
        elif sign[0] in QUOTES:
            string = sign
    return LineScan(string, comment, depth, lowest)


def is_comment_line(line: str, language: str) -> bool:
    """True where the first sign of the line begins a comment of its language (or continues a `/* … */` block by `*`)."""
    stripped = line.lstrip()
    if not stripped:
        return False
    if stripped[0] == "*" and _GROUPS.get(language) == "braces":
        return True
    match = _scanner(language).match(stripped)
    return match is not None and (match.group() in _LINE_COMMENTS or match.group() in _CLOSES_COMMENT)


def indent_width(line: str) -> int:
    """Leading white space in columns; a tab counts 4."""
    lead = line[: len(line) - len(line.lstrip())]
    return len(lead) + 3 * lead.count("\t")
