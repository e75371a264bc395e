"""A temporary index of a workspace: which lines a question is about, and whether they still say what they said.

Chunks are ranked by BM25. Where a sentence model is given, the chunks that BM25 puts first (all of a small workspace) are
ranked by it too, and both rankings are fused by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009). To embed every
chunk of a large workspace would take minutes on two cores; so one that shares no word with the question is not found there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from .bm25 import Bm25, words
from .chunks import Chunk, digest_of, lines_of, split
from .files import MOST_FILES, Admitted, LeftOut, Stamp, read, walk

MOST_EMBEDDED: Final = 64
"""Chunks whose embeddings one question may cost, at most."""
_FUSION_RANK: Final = 60
"""The constant of reciprocal rank fusion, as in its paper."""
_MOST_QUERY_CHARS: Final = 10_000

_Place = tuple[str, int]
"""Path and first line of a chunk."""


class Embedder(Protocol):
    """A model that says how near two texts are in meaning."""

    def similarities(self, query: str, texts: Sequence[str]) -> list[float]:
        """The cosine of the query's and each text's embedding."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Lines that a question may be about."""

    path: PurePosixPath
    """Relative to the root of the index."""
    start: int
    end: int
    """Both included, counted from 1."""
    text: str
    """Long lines are cut, bytes that are no UTF-8 replaced: to be read, not to be searched for in the file."""
    digest: str
    """Of the lines as they are in the file."""
    score: float
    """Higher is better; comparable within one answer only."""

    @property
    def citation(self) -> str:
        """`path:start-end`."""
        return f"{self.path}:{self.start}-{self.end}"

    def still_true(self, root: Path) -> bool:
        """Whether these lines of the file below a root are, byte for byte, what they were when they were indexed.

        False too where the file is gone, became a link or a binary, or grew too large, and where the lines only moved. Not
        covered: a change between this check and the edit; who edits has to match the text again.
        """
        data = read(root, self.path)
        return not isinstance(data, LeftOut) and digest_of(lines_of(data)[self.start - 1 : self.end]) == self.digest


@dataclass(frozen=True, slots=True)
class _Indexed:
    """One file as it was read."""

    stamp: Stamp
    digest: bytes
    """Empty where it was left out."""
    left_out: LeftOut | None
    chunks: tuple[Chunk, ...]


class Index:
    """Chunks of a workspace's files, in memory. Not for several threads at once."""

    def __init__(self, root: Path, admitted: Admitted, embedder: Embedder | None = None) -> None:
        """Empty; `build` reads the files too."""
        self._root = root
        self._admitted = admitted
        self._embedder = embedder
        self._files: dict[PurePosixPath, _Indexed] = {}
        self._chunks: dict[_Place, Chunk] = {}
        self._bm25: Bm25[_Place] = Bm25()
        self._too_many = 0

    @classmethod
    def build(cls, root: Path, admitted: Admitted, embedder: Embedder | None = None) -> Index:
        """Index the files below a folder that a predicate admits. Raises `FileNotFoundError` where there is no such folder."""
        index = cls(root, admitted, embedder)
        index.refresh()
        return index

    @property
    def left_out(self) -> dict[LeftOut, int]:
        """How many admitted files are not searched, and why."""
        counts = Counter(file.left_out for file in self._files.values() if file.left_out is not None)
        return dict(counts) | ({LeftOut.TOO_MANY: self._too_many} if self._too_many else {})

    def __len__(self) -> int:
        return len(self._chunks)

    def refresh(self) -> list[PurePosixPath]:
        """Read again what has changed: files whose stamp is another, and of these those whose content is.

        The files whose content is not what it was are returned, new and vanished ones included, sorted.
        """
        changed = []
        there: set[PurePosixPath] = set()
        self._too_many = 0
        for path, stamp in walk(self._root, self._admitted):
            if len(there) >= MOST_FILES:
                self._too_many += 1
                continue
            there.add(path)
            known = self._files.get(path)
            if known is not None and known.stamp == stamp:
                continue
            fresh = self._read(path, stamp)
            if known is not None and (known.digest, known.left_out) == (fresh.digest, fresh.left_out):
                self._files[path] = _Indexed(stamp, known.digest, known.left_out, known.chunks)
                continue
            self._put(path, fresh)
            changed.append(path)
        for path in self._files.keys() - there:
            self._put(path, None)
            changed.append(path)
        return sorted(changed)

    def search(self, query: str, limit: int = 8) -> list[Hit]:
        """The chunks that a question is most likely about, best first; none where nothing speaks for any."""
        query = query[:_MOST_QUERY_CHARS]
        scores = self._bm25.scores(words(query))
        best = sorted(scores, key=lambda place: (-scores[place], place))
        if self._embedder is not None and query.strip():
            candidates = best[:MOST_EMBEDDED]
            if len(self._chunks) <= MOST_EMBEDDED:
                candidates += sorted(self._chunks.keys() - scores.keys())
            near = self._embedder.similarities(query, [self._embedded(place) for place in candidates])
            by_meaning = [place for _, place in sorted(zip((-value for value in near), candidates, strict=True))]
            scores = fuse([best, by_meaning])
            best = sorted(scores, key=lambda place: (-scores[place], place))
        return [self._hit(place, scores[place]) for place in best[: max(limit, 0)]]

    def _embedded(self, place: _Place) -> str:
        """What the sentence model reads of a chunk."""
        return f"{place[0]}\n{self._chunks[place].text}"

    def _hit(self, place: _Place, score: float) -> Hit:
        chunk = self._chunks[place]
        return Hit(PurePosixPath(place[0]), chunk.start, chunk.end, chunk.text, chunk.digest, score)

    def _read(self, path: PurePosixPath, stamp: Stamp) -> _Indexed:
        data = read(self._root, path)
        if isinstance(data, LeftOut):
            return _Indexed(stamp, b"", data, ())
        return _Indexed(stamp, hashlib.sha256(data).digest(), None, tuple(split(data)))

    def _put(self, path: PurePosixPath, file: _Indexed | None) -> None:
        """Index a file in place of what it was; None = it is gone."""
        known = self._files.pop(path, None)
        for chunk in known.chunks if known is not None else ():
            del self._chunks[str(path), chunk.start]
            self._bm25.remove((str(path), chunk.start))
        if file is None:
            return
        self._files[path] = file
        name = list(words(str(path)))
        for chunk in file.chunks:
            self._chunks[str(path), chunk.start] = chunk
            self._bm25.add((str(path), chunk.start), [*name, *words(chunk.text)])


def fuse(rankings: Iterable[Sequence[_Place]]) -> dict[_Place, float]:
    """Reciprocal rank fusion: each ranking adds 1 / (60 + rank) to what it ranks, the best having rank 1."""
    scores: dict[_Place, float] = defaultdict(float)
    for ranking in rankings:
        for rank, place in enumerate(ranking, 1):
            scores[place] += 1 / (_FUSION_RANK + rank)
    return dict(scores)
