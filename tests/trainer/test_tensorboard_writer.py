"""Curves for TensorBoard, read back by its own reader where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from coderl_store.clock import VirtualClock
from coderl_trainer.tensorboard_writer import MISSING, tensorboard_writer

installed = find_spec("tensorboard") is not None


@pytest.mark.skipif(installed, reason="tensorboard is installed here")
def test_its_absence_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    said: list[str] = []
    assert tensorboard_writer(tmp_path, said.append) is None
    assert said == [MISSING]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not installed, reason="tensorboard is not installed (extra `train`)")
@pytest.mark.filterwarnings("ignore")
def test_its_own_reader_finds_the_curves_and_a_run_that_went_on_has_no_step_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clock = VirtualClock()
    for after, steps in ((None, (1, 2, 3)), (1, (2, 3, 4))):
        clock.advance_to(clock.now_s() + 100)
        writer = tensorboard_writer(tmp_path, lambda _text: None, after_step=after, clock=clock)
        assert writer is not None
        with writer:
            for step in steps:
                row = {"step": step, "time_s": 1.0, "reward": step / 8, "kl": None, "not_finite": ["kl"]}
                writer.record({**row, "completions/mean_length": 10 * len(steps) + step})
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["reward", "completions/mean_length"]
    assert [(event.step, event.value) for event in found.Scalars("reward")] == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]
