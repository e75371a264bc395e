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


def test_three_bits_are_left_of_four(bench: Any, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    packed = quantize(weights, GGMLQuantizationType.Q4_1)
    writer = GGUFWriter(tmp_path / "four.gguf", "llama")
    writer.add_tensor("blk", packed, raw_dtype=GGMLQuantizationType.Q4_1)
    writer.add_tensor("norm", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    bench.requantised(tmp_path / "four.gguf", tmp_path / "three.gguf")
    four, three = (
        {tensor.name: tensor for tensor in GGUFReader(tmp_path / name).tensors} for name in ("four.gguf", "three.gguf")
    )
    before, after = (dequantize(tensors["blk"].data, GGMLQuantizationType.Q4_1).reshape(-1, 32) for tensors in (four, three))
    step = (before.max(axis=1) - before.min(axis=1)) / (bench.LEVELS - 1)
    assert np.abs(after - before).max(axis=1) == pytest.approx(step / 2, rel=0.35)
    assert max(len(np.unique(block)) for block in after) == bench.LEVELS
    assert np.array_equal(three["norm"].data, four["norm"].data)
    assert (tmp_path / "three.gguf").stat().st_size == (tmp_path / "four.gguf").stat().st_size
