"""Pictures and page of a run: what they need, what they say, and that they say nothing false where figures are missing."""

from __future__ import annotations

import io
import math
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from coderl_store.clock import VirtualClock
from coderl_trainer.errors import RunError
from coderl_trainer.plots import PICTURES, draw_all, smoothed, stretches
from coderl_trainer.report import flat, write
from coderl_trainer.run_reading import read_run
from coderl_trainer.runs import RunFolder, SampleRow


def metrics(step: int, rng: random.Random) -> dict[str, float]:
    solved = min(1.0, 0.3 + step / 100 + rng.random() / 20)
    row = {
        "reward": solved, "reward_std": 0.3, "kl": step / 1000, "entropy": 0.9, "loss": rng.gauss(0, 0.1), "grad_norm": 0.5,
        "gradient_step": 2 * step, "completions/mean_length": 20.0, "completions/min_length": 3.0,
        "completions/max_length": 40.0, "completions/clipped_ratio": 0.1, "skipped/all_pass": 0.1, "skipped/all_fail": 0.2,
        "skipped/tie": 0.0, "skipped/too_few": 0.0, "solve/visible": solved, "solve/hidden": solved - 0.05,
        "time/sample_s": 4.0, "time/judge_s": 0.5, "time/learn_s": 3.0, "rewards/tests/mean": solved,
    }  # fmt: skip
    return row | ({"heldout/solve": solved - 0.1, "heldout/n": 50} if step % 10 == 0 else {})


def made(runs: Path, steps: int = 20) -> Path:
    clock, rng = VirtualClock(), random.Random(4)
    with RunFolder.create(runs, "try", {"loss": {"name": "dapo", "clip": [0.2, 0.28]}}, clock=clock) as folder:
        folder.record(0, {"heldout/solve": 0.25, "heldout/n": 50})
        for step in range(1, steps + 1):
            clock.advance_to(clock.now_s() + 8)
            samples = [
                SampleRow("t<1>", "def f(x):\n", "    return x < 1 & \ud800", {"tests": 1.0}, 1.0, 0.7),
                SampleRow("t<1>", "def f(x):\n" * 500, "<script>alert('model')</script>" * 100, {"tests": 0.0}, 0.0, -0.7),
            ]
            folder.record(step, metrics(step, rng), samples)
        folder.finish(best={"step": 10, "heldout/solve": 0.31})
    return folder.path


def test_the_page_says_how_much_memory_a_run_needed(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "try", {}, clock=VirtualClock()) as folder:
        folder.record(1, {"memory/peak_mb": 2345.6})
        folder.finish(results={"memory/peak_mb": 3210.0})
    assert "Peak memory: 3.21 GB." in write(folder.path).report.read_text(encoding="utf-8")
    assert "Peak memory" not in write(made(tmp_path)).report.read_text(encoding="utf-8")


def test_the_result_on_held_out_tasks_is_a_look_at_the_best_step(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "try", {}, clock=VirtualClock()) as folder:
        folder.record(0, {"heldout/solve": 0.25, "heldout/n": 40})
        for step in (1, 2):
            folder.record(step, {"loss": 0.5})
        assert read_run(folder.path).held_out() == [(0, 0.25, 40)]
        folder.finish(best={"step": 1}, results={"heldout": {"n": 40, "before": 0.25, "after": 0.5}})
    assert read_run(folder.path).held_out() == [(0, 0.25, 40), (1, 0.5, 40)]
    assert "Held out: 25.0% before, 50.0% after." in write(folder.path).report.read_text(encoding="utf-8")


def test_every_picture_is_drawn_where_its_figures_are_there(tmp_path: Path) -> None:
    path = made(tmp_path)
    written = write(path)
    assert [plot.stem for plot in written.plots] == list(PICTURES)
    for plot in written.plots:
        pixels = imread(io.BytesIO(plot.read_bytes()))
        assert pixels.shape[1] > 600
        assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 20, f"{plot.name} shows nothing"
    assert {"reward", "solve", "kl", "entropy", "lengths", "skipped", "time"} <= set(PICTURES)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    path = made(tmp_path, 3)
    write(path)
    before = {file: file.read_bytes() for file in (path / "report.html", *sorted((path / "plots").iterdir()))}
    write(path)
    assert before == {file: file.read_bytes() for file in before}


def test_the_page_is_one_file_and_shows_texts_as_texts(tmp_path: Path) -> None:
    path = made(tmp_path)
    write(path)
    page = (path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert "<script" not in page
    assert "return x &lt; 1 &amp; ?" in page
    assert "href" not in page
    for words in ("It came to its end after 20 steps in 3 minutes", "25.0% before", "Best: heldout/solve 0.31, step 10"):
        assert words in page
    for cell in ("loss.clip", "0.2, 0.28", "rewards/tests/mean", "t&lt;1&gt;", "reward 1 (tests 1)", "advantage -0.70"):
        assert cell in page
    assert len(page) < 1_500_000


def test_what_has_no_figures_is_not_drawn_and_an_old_picture_of_it_goes(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "bare", {}) as folder:
        folder.record(1, {"loss": 0.5, "kl": math.nan, "grad_norm": 0.0})
        (folder.path / "plots").mkdir()
        for name in ("reward.png", "mine.png"):
            (folder.path / "plots" / name).write_bytes(b"old")
    written = write(folder.path)
    assert [plot.name for plot in written.plots] == ["loss.png"]
    assert sorted(plot.name for plot in (folder.path / "plots").iterdir()) == ["loss.png", "mine.png"]


def test_a_run_without_a_step_still_has_a_page(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "empty", {}) as folder:
        folder.fail("the model could not be loaded")
    written = write(folder.path)
    assert written.plots == ()
    assert "The run failed: the model could not be loaded." in written.warnings
    assert "It failed after 0 steps" in written.report.read_text()


def test_what_makes_the_figures_doubtful_is_said(tmp_path: Path) -> None:
    path = made(tmp_path, 3)
    with RunFolder.reopen(path, 2) as folder:
        folder.record(3, {"loss": math.nan})
        folder.finish()
    (path / "git.json").write_text('{"commit": "0123456789abcdef", "dirty": true, "changed": ["a.py"]}')
    warnings = write(path).warnings
    assert warnings == (
        "The code was changed after commit 0123456789ab: a.py.",
        "The run went on after an end, after step 2.",
        "loss was not finite, first in step 3.",
        "Files are not as they were when the run ended: git.json.",
    )
    (path / "manifest.json").unlink()
    assert write(path).warnings[0].startswith("The run is killed")


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [1, 2, 3, 500])
def test_short_and_long_runs_are_drawn(tmp_path: Path, steps: int) -> None:
    rng = random.Random(1)
    with RunFolder.create(tmp_path, "try", {}) as folder:
        for step in range(1, steps + 1):
            folder.record(step * 3, metrics(step, rng))
    assert set(draw_all(read_run(folder.path))) == set(PICTURES)


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300))
def test_smoothing_stays_between_the_values_and_keeps_short_runs_as_they_are(values: list[float]) -> None:
    mean = smoothed(values)
    assert len(mean) == len(values)
    assert min(values) - 1e-6 <= mean.min()
    assert mean.max() <= max(values) + 1e-6
    if len(values) < 50:
        assert mean == pytest.approx(values, abs=1e-9)


@given(values=st.lists(st.floats(0, 1e3), min_size=1, max_size=300))
def test_stretches_keep_the_total(values: list[float]) -> None:
    steps = [2 * index for index in range(len(values))]
    edges, means = stretches(steps, np.array([values]))
    assert len(edges) == means.shape[1] + 1 <= 61
    assert (np.diff(edges) > 0).all()
    counts = [sum(low < step < high for step in steps) for low, high in pairwise(edges)]
    assert sum(counts) == len(values)
    assert float(np.dot(counts, means[0])) == pytest.approx(sum(values), abs=1e-6)


def test_nested_settings_are_flat_and_sorted() -> None:
    assert flat({"b": {"y": 1, "x": {}}, "a": [1]}) == [("a", [1]), ("b.x", {}), ("b.y", 1)]
