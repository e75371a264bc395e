"""The made-up log of the calibration benchmark is a log that every reader takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from coderl_gate.catalogue import CONTEXT_NAMES, SUGGESTION_NAMES
from coderl_gate.dataset import build, collect
from coderl_store.records import Session
from coderl_store.repository import Repository

PATH = Path(__file__).parents[2] / "benchmarks" / "synthetic_log.py"


@pytest.fixture(scope="module")
def synthetic_log() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic_log", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_reads_the_same_both_ways_and_holds_a_signal(synthetic_log: ModuleType, tmp_path: Path) -> None:
    synthetic_log.generate(tmp_path / "log.db", 2_500, seed=3)
    repository = Repository(f"sqlite:///{tmp_path / 'log.db'}")
    dataset, other = collect(repository.columns(batch=999)), build(repository.requests())
    sessions = repository.count(Session)
    repository.close()
    assert sessions == 5
    assert dataset.data_hash == other.data_hash
    np.testing.assert_array_equal(dataset.after, other.after)
    assert set(dataset.skipped) == {"where nothing was shown", "without an outcome yet", "not seen by anybody"}
    assert 2_000 < len(dataset) < 2_400
    assert 0.2 < dataset.kept.mean() < 0.5
    x = dataset.before[:, CONTEXT_NAMES.index(synthetic_log.SIGNALS[0])]
    q = dataset.after[:, SUGGESTION_NAMES.index(synthetic_log.SIGNALS[1])]
    assert np.corrcoef(x, dataset.kept)[0, 1] > 0.2
    assert np.corrcoef(q, dataset.kept)[0, 1] > 0.2
    assert np.isfinite(dataset.before).all(axis=0).sum() > 10
    assert np.isnan(dataset.before).all(axis=0).sum() == len(synthetic_log.NEVER_KNOWN)


def test_same_seed_same_log(synthetic_log: ModuleType, tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic_log.generate(tmp_path / name, 1_000, seed=seed)
        repository = Repository(f"sqlite:///{tmp_path / name}")
        hashes.append(collect(repository.columns()).data_hash)
        repository.close()
    assert hashes[0] == hashes[1] != hashes[2]
