"""A small gate with known routes, a small source file, and a generator that knows how the file goes on, more or less."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coderl_gate.artifact import GateArtifact, StageModel, save
from coderl_gate.costs import CostParameters
from coderl_gate.scorer import LinearScorer

SOURCE = '''"""Greetings and sums."""


def greet(name: str, loud: bool = False) -> str:
    text = f"Hello, {name}: 𝕏"
    if loud:
        return text.upper()
    return text


def total(values: list[int]) -> int:
    result = 0
    for value in values:
        result += value
    return result
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Python file of 15 lines with a character outside the basic plane."""
    path = tmp_path / "source.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture
def oracle(tmp_path: Path) -> Callable[..., Path]:
    """Makes scripts for the scripted backend that complete `SOURCE`, or another text, with mistakes."""

    def made(error_rate: float, text: str = SOURCE, **default: object) -> Path:
        path = tmp_path / f"oracle-{error_rate}-{len(text)}-{len(default)}.json"
        content = {"oracle": {"texts": [text], "error_rate": error_rate, "seed": 1}, "default": default}
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return made


def _linear(intercept: float, **weights: float) -> StageModel:
    count = len(weights)
    scorer = LinearScorer(tuple(weights), tuple(weights.values()), (0.0,) * count, (1.0,) * count, (0.0,) * count, intercept)
    return StageModel(scorer)


@pytest.fixture
def small_gate(tmp_path: Path) -> Path:
    """p1 is 0.02 on a blank line (skip), 0.98 behind an opening bracket (draft), else 0.5 (full); p2 falls with the length."""
    artifact = GateArtifact(
        stage1=_linear(0.0, line_blank=-4.0, last_open_bracket=4.0),
        stage2=_linear(6.0, s_chars=-0.2),
        h_bits=0.3,
        costs=CostParameters(),
        data_hash="made by hand for tests",
        created_at="2026-11-20T00:00:00+00:00",
    )
    path = tmp_path / "gate"
    save(artifact, path)
    return path
