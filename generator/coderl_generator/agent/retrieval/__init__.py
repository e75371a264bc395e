"""Finding the places of a workspace that a question is about: a temporary index of line chunks.

`Index` ranks by BM25, and beside it by a sentence model (`sentences.SentenceModel`) where the extra `agent` is installed. Nothing
is written to disk and nothing is fetched from anywhere.
"""

from __future__ import annotations

from .index import Embedder, Hit, Index

__all__ = ["Embedder", "Hit", "Index"]
