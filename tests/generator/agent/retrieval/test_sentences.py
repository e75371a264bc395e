"""The packaged sentence model. Skipped where the extra `agent` is not installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from coderl_generator.agent.retrieval.sentences import FILES, SentenceModel, installed, package_folder
from coderl_generator.errors import ModelDamaged, ModelMissing

CAT = "The cat sat on the mat."


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    found = installed()
    if found is None:
        pytest.skip("the extra `agent` is not installed")
    return found


def test_embeddings_are_those_of_the_published_model(model: SentenceModel) -> None:
    """The numbers are what sentence-transformers 6.2.0 gives for this text."""
    (vector,) = model.embed([CAT])
    assert vector[:6] == pytest.approx([0.130237, -0.015773, -0.036717, 0.057986, -0.059792, 0.033054], abs=2e-5)


def test_what_stands_beside_a_text_changes_nothing(model: SentenceModel) -> None:
    texts = [CAT, "", "def add(a, b):\n    return a + b", "word " * 500, "größer 你好 \ud800 \0"]
    together = model.embed(texts)
    alone = np.concatenate([SentenceModel(package_folder() or Path()).embed([text]) for text in texts])
    assert together.shape == (len(texts), 384)
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)


def test_what_means_the_same_is_nearer(model: SentenceModel) -> None:
    texts = ["def total(prices): return sum(prices)", "class HttpServer: ...", "the colours of autumn leaves"]
    near = model.similarities("add up what everything costs", texts)
    assert near.index(max(near)) == 0
    assert model.similarities(CAT, []) == []


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"pip install 'coderl\[agent\]'"):
        SentenceModel(tmp_path)


def test_a_model_that_is_another_one(tmp_path: Path) -> None:
    for name, _ in FILES:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(ModelDamaged, match="--force-reinstall"):
        SentenceModel(tmp_path)
    folder = package_folder()
    if folder is not None:
        shutil.copyfile(folder / "model.safetensors", tmp_path / "model.safetensors")
        with pytest.raises(ModelDamaged, match=r"tokenizer\.json"):
            SentenceModel(tmp_path)
