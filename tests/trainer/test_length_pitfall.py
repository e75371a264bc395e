"""The pitfall, with a real engine on a tiny model: a reward of acceptance makes suggestions short, seconds saved do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from coderl_trainer.errors import LengthCollapse
from coderl_trainer.feedback import Baseline, Learning, Method, Objective
from coderl_trainer.length_guard import require_length

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_length_pitfall.py"
World = tuple[Path, Any, Any]
"""Folder with the model, rows of its log, how it does before."""
pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="coderl[train] is not installed", exc_type=ImportError)
    spec = importlib.util.spec_from_file_location("bench_length_pitfall", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("pitfall")
    engine = bench.start(folder)
    return folder, bench.log_of(engine, folder, 200), bench.measure(engine, 150)


def after(bench: ModuleType, world: World, **learning: Any) -> Any:
    return bench.trained(world[0], world[1], Learning(**learning), 150, batch_tokens=1500)


def test_seconds_saved_rise_and_suggestions_do_not_become_shorter(bench: ModuleType, world: World) -> None:
    before, trained = world[2], after(bench, world)
    assert trained.figures["seconds"] > before.figures["seconds"] + 0.2
    assert trained.figures["chars"] >= before.figures["chars"]
    require_length(before.table, trained.table)


def test_acceptance_alone_makes_them_short_and_the_guard_fires(bench: ModuleType, world: World) -> None:
    before, trained = world[2], after(bench, world, objective=Objective.ACCEPTED)
    assert trained.figures["acceptance"] > before.figures["acceptance"]
    assert trained.figures["seconds"] < before.figures["seconds"]
    with pytest.raises(LengthCollapse, match="shorter"):
        require_length(before.table, trained.table)


@pytest.mark.parametrize("method", [Method.DRO, Method.KTO])
def test_the_other_methods_save_seconds_too(bench: ModuleType, world: World, method: Method) -> None:
    before, trained = world[2], after(bench, world, method=method)
    assert trained.figures["seconds"] > before.figures["seconds"]
    assert trained.figures["chars"] >= before.figures["chars"]


def test_a_gate_that_knows_all_leaves_nothing_to_learn(bench: ModuleType, world: World) -> None:
    """With p2 subtracted only noise is left, though acceptance is rewarded: lengths stay about what they were."""
    before = world[2]
    short = after(bench, world, objective=Objective.ACCEPTED)
    trained = after(bench, world, objective=Objective.ACCEPTED, baseline=Baseline.SUGGESTION)
    lost = before.figures["chars"] - trained.figures["chars"]
    assert abs(lost) < 0.5 * (before.figures["chars"] - short.figures["chars"])
