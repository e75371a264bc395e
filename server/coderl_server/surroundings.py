"""What a prompt carries from elsewhere, kept the same from request to request: the mutable side of `retrieval`.

A choice is kept while somebody types: until the prompt's window moves on, the place is more than `FAR_LINES` lines away
from where it was made, another open document changes, is opened or closed, or a setting changes. So the snippets before the
window stay the same to the letter, and so does the backend's cache, for as long as the window itself allows. When a choice is
made anew and comes out the same, the prompt is the same: the order of snippets does not depend on their worth.

Each document is read once per version, under a budget of time; what was not read in time is read with the next requests, and
when all is read the choice is made anew, once. Never read: documents that the rules exclude (secret, switched off, too large).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from coderl_generator.complete import Budget
from coderl_generator.prompt import window_start
from coderl_generator.snippets import Snippet

from .documents import Document, DocumentStore, Place
from .retrieval import Around, Outlined, retrieve
from .rules import place_objection
from .settings import Settings
from .touched import Touched

MOST_DOCUMENTS = 20
"""Other documents that are looked at, the last edited and the last opened first (Copilot's `similarFiles.ts`: 20)."""
MOST_CHARS = 100_000
"""Larger documents are not read for context."""
FAR_LINES = 20
KEPT = 20
"""Documents whose last choice is kept."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """The snippets of one document, and what they were chosen for."""

    state: tuple[object, ...]
    line: int
    snippets: tuple[Snippet, ...]
    complete: bool
    """All documents had been read; where not, it stands until they are."""


class Surroundings:
    """Gathers the snippets of requests. One thread calls it; `now_s` is the session's clock."""

    def __init__(self, documents: DocumentStore, touched: Touched, now_s: Callable[[], float]) -> None:
        self._documents = documents
        self._touched = touched
        self._now_s = now_s
        self._outlines: dict[str, tuple[Document, int, Outlined]] = {}
        self._choices: OrderedDict[str, _Choice] = OrderedDict()
        self._rules: Settings | None = None
        self._may_be_read: dict[tuple[str, str], bool] = {}

    def snippets(self, place: Place, settings: Settings, template: str, budget: Budget) -> tuple[Snippet, ...]:
        """What the prompt of a place carries; nothing where the setting is 0."""
        own = self._documents.get(place.uri)
        if budget.max_context_chars <= 0 or own is None or own.chars > MOST_CHARS:
            return ()
        others = self._others(own, settings)
        start = window_start(place.prefix, budget.max_prefix_chars, budget.anchor_chars)
        anchor = place.offset_chars - len(place.prefix) + start
        stamp = frozenset((document.uri, document.changes) for document in others)
        state = (own, anchor, stamp, settings, template, budget.max_context_chars)
        kept = self._choices.get(place.uri)
        fits = kept is not None and kept.state == state and abs(kept.line - place.line) <= FAR_LINES
        if kept is not None and fits and kept.complete:
            return kept.snippets
        read, complete = self._read(others, settings)
        if kept is not None and fits and not complete:
            return kept.snippets
        chosen = _Choice(state, place.line, self._choose(place, own, read, template, budget, start), complete)
        self._choices[place.uri] = chosen
        self._choices.move_to_end(place.uri)
        while len(self._choices) > KEPT:
            self._choices.popitem(last=False)
        return chosen.snippets

    def _read(self, others: list[Document], settings: Settings) -> tuple[list[Outlined], bool]:
        """What could be read in time, and whether that is all; one document is always finished."""
        until_s = self._now_s() + settings.context_ms / 1000
        read: list[Outlined] = []
        for document in others:
            if self._known(document) is not None or self._now_s() <= until_s:
                read.append(self._outlined(document))
        return read, len(read) == len(others)

    def _others(self, own: Document, settings: Settings) -> list[Document]:
        if settings is not self._rules:
            self._rules, self._may_be_read = settings, {}
        edited = {spot.uri: rank for rank, spot in enumerate(self._touched.spots)}
        readable = [
            document for document in self._documents.all() if document is not own and self._readable(document, settings)
        ]
        readable.reverse()
        return sorted(readable, key=lambda document: -edited.get(document.uri, -1))[:MOST_DOCUMENTS]

    def _readable(self, document: Document, settings: Settings) -> bool:
        if document.dropped or document.chars > min(MOST_CHARS, settings.max_document_chars):
            return False
        key = document.uri, document.language
        if key not in self._may_be_read:
            self._may_be_read[key] = place_objection(*key, 0, settings) is None
        return self._may_be_read[key]

    def _choose(
        self, place: Place, own: Document, read: list[Outlined], template: str, budget: Budget, start: int
    ) -> tuple[Snippet, ...]:
        mine = self._outlined(own)
        shown = place.suffix[: budget.max_suffix_chars] if template != "plain" else ""
        around = Around(
            own=mine,
            first_line=place.line - place.prefix[start:].count("\n"),
            last_line=place.line + shown.count("\n"),
            before=tuple(place.prefix[start:].split("\n")),
            after=tuple(place.suffix[: budget.max_suffix_chars].split("\n")),
        )
        spots = [(spot.uri, spot.line) for spot in self._touched.spots]
        found = retrieve(around, read, spots, template, budget.max_context_chars)
        self._forget_closed()
        return found

    def _outlined(self, document: Document) -> Outlined:
        known = self._known(document)
        if known is not None:
            return known
        outlined = Outlined.of(document.uri, shown_path(document.uri), document.language, document.text())
        self._outlines[document.uri] = document, document.changes, outlined
        return outlined

    def _known(self, document: Document) -> Outlined | None:
        known = self._outlines.get(document.uri)
        return known[2] if known is not None and known[0] is document and known[1] == document.changes else None

    def _forget_closed(self) -> None:
        for uri in [uri for uri in self._outlines if self._documents.get(uri) is None]:
            del self._outlines[uri]
            self._choices.pop(uri, None)


def shown_path(uri: str) -> str:
    """What a model is told of a document's path: its folder's name and its own."""
    path = unquote(uri.split("://", 1)[-1].split("#", 1)[0].split("?", 1)[0]).replace("\\", "/")
    return "/".join([name for name in path.split("/") if name][-2:])
