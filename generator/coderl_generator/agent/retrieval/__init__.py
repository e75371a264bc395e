"""Finding the places of a workspace that a question is about: a temporary index of line chunks.

`Index` ranks by BM25, and beside it by a sentence model (`sentences.installed`) where the extra `agent` is there. Nothing is
written to disk and nothing is fetched from anywhere.
"""

from __future__ import annotations

from .index import Embedder, Hit, Index

__all__ = ["Embedder", "Hit", "Index"]
