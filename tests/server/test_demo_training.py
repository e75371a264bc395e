"""What the demo says of its training step, and that a step that cannot be made does not take the demo with it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from coderl_server.demo_training import ABSENT, DemoStep, learn, missing
from coderl_store.repository import Repository
from coderl_trainer.recipe import read_recipe


def said(step: DemoStep) -> str:
    console = Console(record=True, width=500, quiet=False)
    with console.capture() as capture:
        step.render(console)
    return capture.get().strip()


def test_a_step_is_told_in_two_sentences_and_in_json() -> None:
    step = DemoStep(
        rows=14, judged=4, left_out={"not_shown": 3, "disagrees": 2}, steps=1, before=-0.5, after=-0.25, run_dir="out/runs/x",
        report="out/runs/x/report.html",
    )  # fmt: skip
    assert said(step) == (
        "1 gradient step of the embedded model on 10 suggestions of this log, judged by 4 later ones (left out: 3 not shown, 2 "
        "disagrees). Seconds saved per suggestion, estimated from the log: -0.500 before, -0.250 after, from too few to "
        "conclude anything; the page is out/runs/x/report.html"
    )
    assert step.to_json()["left_out"] == {"not_shown": 3, "disagrees": 2}


def test_without_torch_one_line_says_how_to_get_it() -> None:
    assert "make install-train" in ABSENT
    assert "\n" not in ABSENT
    assert said(DemoStep(absent=ABSENT)) == ABSENT
    assert DemoStep(absent=ABSENT).to_json() == {"absent": ABSENT}
    assert bool(missing()) == (find_spec("torch") is None or find_spec("transformers") is None or find_spec("peft") is None)


def test_the_recipe_is_tiny_and_for_the_log() -> None:
    recipe = read_recipe(Path("demo"))
    assert recipe.logged.most_rows is not None
    assert recipe.logged.most_rows <= 32
    assert recipe.logged.epochs == 1


@pytest.mark.slow
def test_a_log_that_holds_too_little_is_told(tmp_path: Path, embedded_model: Path) -> None:
    for name in ("torch", "transformers", "peft"):
        pytest.importorskip(name, reason="the extra `train` is not installed")
    url = f"sqlite:///{tmp_path / 'log.db'}"
    Repository(url).close()
    step = learn(url, tmp_path / "runs", str(embedded_model))
    assert step.absent.startswith("No training step: 0 logged rows")
