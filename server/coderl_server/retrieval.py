"""Which text from elsewhere a prompt carries, within a budget of characters. Pure.

In the order of their worth, until the budget is full: the definitions of names that stand near the place, those of names that
its file imports, import lines above the window, what was edited lately, the windows of other files that share most identifiers
with the place, and the outline of imported files. Then they are put into an order that does not depend on worth, by kind, file
and line: while the same things are chosen, the prompt begins with the same characters and the backend keeps its cache.

From Copilot's client (`microsoft/vscode-copilot-chat`, `similarFiles.ts`, `jaccardMatching.ts`): windows by the Jaccard
similarity of their words, one per file, 20 files. Its windows have 60 lines and its budget thousands of tokens; here 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from coderl_gate.lexical import IDENTIFIER, KEYWORDS, builtin_names
from coderl_generator.snippets import Snippet, write

from .outline import Definition, definitions, imports

NEAR_LINES = 20
"""So many lines before the place say what it is about; so long are windows of other files, too."""
STEP_LINES = 10
LEAST_SIMILARITY = 0.15
"""Windows below it are not shown (our choice: unrelated files of one project share about a tenth)."""
MOST_SIMILAR = 2
MOST_EDITED = 3
AROUND_LINES = 4
"""Lines shown before and after an edited one."""
AMBIGUOUS = 3
"""A name that so many files define says nothing."""


class Kind(IntEnum):
    """Whence a piece comes, in the order in which they stand in the prompt: the last is nearest to the window."""

    SIMILAR = 0
    EDITED = 1
    DEFINITION = 2
    IMPORT = 3


@dataclass(frozen=True, slots=True)
class Outlined:
    """One document, read once per version."""

    uri: str
    path: str
    """As much of it as the model may see."""
    language: str
    lines: tuple[str, ...]
    """Without terminators."""
    definitions: tuple[Definition, ...]
    imports: tuple[tuple[int, str, frozenset[str]], ...]
    windows: tuple[tuple[int, frozenset[str]], ...]
    """First line and identifiers of each window of `NEAR_LINES`."""

    @staticmethod
    def of(uri: str, path: str, language: str, text: str) -> Outlined:
        """O(text)."""
        lines = tuple(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        words = [identifiers(line, language) for line in lines]
        starts = range(0, max(1, len(lines) - NEAR_LINES + STEP_LINES), STEP_LINES)
        windows = tuple((start, frozenset().union(*words[start : start + NEAR_LINES])) for start in starts)
        return Outlined(uri, path, language, lines, definitions(language, text), imports("\n".join(lines)), windows)

    @property
    def stem(self) -> str:
        """What an import calls the file."""
        folder, _, name = self.path.rpartition("/")
        stem = name.split(".", 1)[0]
        return folder.rpartition("/")[2] if stem in ("__init__", "index", "mod") else stem


@dataclass(frozen=True, slots=True)
class Around:
    """The place a prompt is for."""

    own: Outlined
    first_line: int
    last_line: int
    """Lines of the own document that the prompt shows anyway."""
    before: tuple[str, ...]
    """Lines up to the place, the last one begun."""
    after: tuple[str, ...] = ()
    """Lines behind it."""


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: Kind
    uri: str
    path: str
    line: int
    text: str


def identifiers(text: str, language: str) -> frozenset[str]:
    """The names in a text, without keywords, builtins and single letters."""
    return frozenset(name for name in IDENTIFIER.findall(text) if len(name) > 1) - KEYWORDS - builtin_names(language)


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard's index; 0 where both are empty."""
    together = len(a | b)
    return len(a & b) / together if together else 0.0


def retrieve(
    around: Around, others: Sequence[Outlined], edited: Sequence[tuple[str, int]], template: str, max_chars: int
) -> tuple[Snippet, ...]:
    """The snippets for a place, in the order in which they are written; written, they have at most `max_chars` characters.

    `others`: documents that may be read. `edited`: (URI, line) of the last edits, most recent last; those of documents that are
    not in `others` are passed over.
    """
    chosen: dict[tuple[str, int], _Piece] = {}

    def snippets(pieces: list[_Piece]) -> tuple[Snippet, ...]:
        return _joined(sorted(pieces, key=lambda piece: (piece.kind, piece.path, piece.uri, piece.line)))

    def fits(pieces: list[_Piece]) -> bool:
        written = write(snippets(pieces), around.own.path, around.own.language, template, 1 << 30)
        return 0 < written.chars <= max_chars

    for piece in _candidates(around, others, edited):
        key = piece.uri, piece.line
        if key not in chosen and piece.text.strip() and fits([*chosen.values(), piece]):
            chosen[key] = piece
    return snippets(list(chosen.values()))


def _joined(pieces: Sequence[_Piece]) -> tuple[Snippet, ...]:
    """One snippet per kind and file."""
    groups: dict[tuple[Kind, str], list[_Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.kind, piece.uri), []).append(piece)
    return tuple(Snippet(group[0].path, "\n".join(piece.text for piece in group)) for group in groups.values())


def _candidates(around: Around, others: Sequence[Outlined], edited: Sequence[tuple[str, int]]) -> Iterator[_Piece]:
    """All that might be shown, the most valuable first."""
    own = around.own
    near = _near_names(around)
    on_imports = frozenset().union(*(names for _, _, names in own.imports))
    related = [other for other in others if _family(other.language) == _family(own.language)]
    imported = [other for other in related if other.stem in on_imports]
    rest = [other for other in related if other.stem not in on_imports]
    yield from _definitions_of(near, own, imported, rest, around)
    yield from _definitions_of([name for name in _imported_names(own) if name not in near], own, imported, (), around)
    for line, text, names in own.imports:
        if line < around.first_line and names & frozenset(near):
            yield _Piece(Kind.IMPORT, own.uri, own.path, line, text)
    yield from _edited(around, others, edited)
    yield from _similar(around, related)
    for other in imported:
        for one in other.definitions:
            if not one.name.startswith("_"):
                yield _Piece(Kind.DEFINITION, other.uri, other.path, one.line, one.text)


def _near_names(around: Around) -> list[str]:
    """The names near the place, nearest first."""
    language = around.own.language
    known: dict[str, None] = {}
    for line in (*reversed(around.before[-NEAR_LINES:]), *around.after[: NEAR_LINES // 4]):
        for name in reversed(IDENTIFIER.findall(line)):
            if len(name) > 1 and name not in KEYWORDS and name not in builtin_names(language):
                known.setdefault(name)
    return list(known)


def _imported_names(own: Outlined) -> list[str]:
    """The names on a document's import lines, in the order of the lines and of the alphabet."""
    return list(dict.fromkeys(name for _, _, names in own.imports for name in sorted(names)))


def _definitions_of(
    names: Sequence[str], own: Outlined, imported: Sequence[Outlined], rest: Sequence[Outlined], around: Around
) -> Iterator[_Piece]:
    """The definitions of names: of imported files first, then of the own file, then of others. What the window defines or shows
    needs no other."""

    def in_window(one: Definition) -> bool:
        return around.first_line <= one.line <= around.last_line

    shown = {one.name for one in own.definitions if in_window(one)}
    tables = [_by_name(imported), _by_name([own]), _by_name(rest)]
    for name in names:
        places = next((table[name] for table in tables if name in table), [])
        if name not in shown and len(places) < AMBIGUOUS:
            for document, one in places:
                yield _Piece(Kind.DEFINITION, document.uri, document.path, one.line, one.text)


def _by_name(documents: Sequence[Outlined]) -> dict[str, list[tuple[Outlined, Definition]]]:
    table: dict[str, list[tuple[Outlined, Definition]]] = {}
    for document in documents:
        for one in document.definitions:
            table.setdefault(one.name, []).append((document, one))
    return table


def _edited(around: Around, others: Sequence[Outlined], edited: Sequence[tuple[str, int]]) -> Iterator[_Piece]:
    known = {other.uri: other for other in (*others, around.own)}
    count = 0
    for uri, line in reversed(edited):
        document = known.get(uri)
        if document is None or line >= len(document.lines) or count >= MOST_EDITED:
            continue
        first, last = max(0, line - AROUND_LINES), line + AROUND_LINES
        if uri == around.own.uri and first <= around.last_line and last >= around.first_line:
            continue
        count += 1
        yield _Piece(Kind.EDITED, uri, document.path, first, "\n".join(document.lines[first : last + 1]))


def _similar(around: Around, related: Sequence[Outlined]) -> Iterator[_Piece]:
    here = identifiers("\n".join(around.before[-NEAR_LINES:]), around.own.language)
    best: list[tuple[float, int, Outlined]] = []
    for document in related:
        scored = [(similarity(here, words), -start) for start, words in document.windows]
        score, start = max(scored, default=(0.0, 0))
        if score >= LEAST_SIMILARITY:
            best.append((score, -start, document))
    for _, start, document in sorted(best, key=lambda one: (-one[0], one[2].uri))[:MOST_SIMILAR]:
        yield _Piece(Kind.SIMILAR, document.uri, document.path, start, "\n".join(document.lines[start : start + NEAR_LINES]))


def _family(language: str) -> str:
    """Languages whose files use each other's definitions."""
    return {"typescript": "javascript", "javascriptreact": "javascript", "typescriptreact": "javascript", "cpp": "c"}.get(
        language, language
    )
