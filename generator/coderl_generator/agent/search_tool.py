"""The search by meaning, and what keeps an edit from relying on a hit that is out of date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from coderl_generator.errors import ToolFailed

from .calls import Parameter, ToolSpec
from .permissions import Kind
from .retrieval import Embedder, Hit, Index
from .toolbox import Prepared
from .workspace import Change, Workspace

_LIMIT: Final = 6


class ShownHits:
    """The hits that the model was shown, as far as this run has not changed their files itself."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hits: dict[PurePosixPath, tuple[Hit, ...]] = {}

    def add(self, hits: Sequence[Hit]) -> None:
        """Remember what was shown."""
        for hit in hits:
            self._hits[hit.path] = (*self._hits.get(hit.path, ()), hit)

    def check(self, changes: Sequence[Change]) -> None:
        """Raises `ToolFailed`, once, where lines that were shown are not what they were."""
        for change in changes:
            stale = [hit for hit in self._hits.get(change.path, ()) if not hit.still_true(self._root)]
            if stale:
                self.forget(change.path)
                raise ToolFailed(f"{stale[0].citation} is not what search_code showed any more: read it again before you edit")

    def forget(self, path: PurePosixPath) -> None:
        """The run changed this file itself."""
        self._hits.pop(path, None)


class SearchCode:
    """Line chunks that a question may be about. The index is made at the first search and brought up to date at each."""

    spec = ToolSpec(
        "search_code",
        "Find the places in the workspace that a question is about, by words and by meaning; cited as path:first-last.",
        (Parameter("query", "string", "The question, or words of the code that is looked for."),),
    )

    def __init__(self, workspace: Workspace, shown: ShownHits, embedder: Callable[[], Embedder | None]) -> None:
        """`embedder`: makes the sentence model when it is needed; None = rank by words alone."""
        self._workspace = workspace
        self._shown = shown
        self._embedder = embedder
        self._index: Index | None = None

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        query = arguments["query"]
        if not query.strip():
            raise ToolFailed("the query is blank")

        def act() -> str:
            if self._index is None:
                self._index = Index(self._workspace.root, self._workspace.admitted, self._embedder())
            self._index.refresh()
            hits = self._index.search(query, _LIMIT)
            self._shown.add(hits)
            if not hits:
                return "Nothing in the workspace speaks for any place."
            return "\n\n".join(f"{hit.citation}\n{hit.text}" for hit in hits)

        return Prepared(Kind.READ, (".",), act)


def sentence_model() -> Embedder | None:
    """The packaged sentence model; None where the extra `agent` is not installed. Raises `ModelDamaged`, `ModelMissing`."""
    from .retrieval.sentences import SentenceModel, package_folder

    folder = package_folder()
    return None if folder is None else SentenceModel(folder)
