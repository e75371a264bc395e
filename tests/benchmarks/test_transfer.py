"""The second generator of the transfer benchmark: the same model with fewer levels, and everything else untouched."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_transfer.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_transfer", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def written(path: Path, weights: np.ndarray[Any, Any]) -> Path:
    """A GGUF file with one Q4_1 tensor and one that is not quantised."""
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("blk", quantize(weights, GGMLQuantizationType.Q4_1), raw_dtype=GGMLQuantizationType.Q4_1)
    writer.add_tensor("norm", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks_of(path: Path) -> np.ndarray[Any, Any]:
    """The weights of the quantised tensor, a row per block."""
    (tensor,) = [tensor for tensor in GGUFReader(path).tensors if tensor.name == "blk"]
    return dequantize(tensor.data, GGMLQuantizationType.Q4_1).reshape(-1, 32)


@pytest.mark.parametrize("how", ["3bit", "q4_0"])
def test_only_the_quantised_weights_change(bench: Any, tmp_path: Path, how: str) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    source = written(tmp_path / "source.gguf", weights)
    before = source.read_bytes()
    target = bench.requantised(source, tmp_path / "target.gguf", how)
    assert source.read_bytes() == before
    assert target.stat().st_size == len(before)
    (norm,) = [tensor.data for tensor in GGUFReader(target).tensors if tensor.name == "norm"]
    assert np.array_equal(norm, weights[0])
    old, new = blocks_of(source), blocks_of(target)
    assert not np.array_equal(old, new)
    if how == "3bit":
        step = (old.max(axis=1) - old.min(axis=1)) / (bench.LEVELS - 1)
        assert np.abs(new - old).max(axis=1) == pytest.approx(step / 2, rel=0.35)
        assert max(len(np.unique(block)) for block in new) == bench.LEVELS
    else:
        expected = dequantize(quantize(old, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
        assert new == pytest.approx(expected.reshape(-1, 32), abs=0.01)
