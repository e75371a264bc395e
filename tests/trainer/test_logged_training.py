"""`coderl train --from-log` through the real command: killed, interrupted or out of disk, and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from shlex import split
from typing import Any

import pytest

from coderl_store.repository import Repository
from coderl_trainer.length_world import write_length_model
from coderl_trainer.logged_memory import FILE

from .tiny_llama import need_torch
from .training_runs import CODERL, append_length_log, ended_after, environment, metrics, told_by

pytestmark = pytest.mark.slow

SETTINGS = (
    "lora_rank=0", "logged.learning_rate=1e-3", "logged.batch_tokens=600", "logged.epochs=3", "logged.look_every=7",
    "checkpoint_every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_torch()
    folder = tmp_path_factory.mktemp("logged")
    write_length_model(folder / "model")
    append_length_log(database(folder), folder / "model", seed=1)
    return folder


def database(place: Path) -> str:
    return f"sqlite:///{place / 'log.db'}"


def command(place: Path, name: str, *more: str) -> list[str]:
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return [
        *CODERL, "train", "--from-log", "--include-simulated", "--database", database(place), "--model",
        str(place / "model"), "--name", name, "--runs", str(place / "runs"), *settings, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return told_by(command(place, "whole", "--json"))


def weights(run: Path, step: int) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(run / "checkpoints" / f"{step:06d}" / "state.pt", weights_only=True)
    return state


def test_the_run_says_which_log_it_was_and_how_much_memory_it_took(place: Path, whole: dict[str, Any]) -> None:
    run = Path(whole["run_dir"])
    assert set(whole) == {"run_dir", "steps", "best", "heldout", "report"}
    assert whole["steps"] > 20
    assert {"n", "unit", "before", "after", "difference"} <= set(whole["heldout"])
    told = json.loads((run / "config.json").read_text(encoding="utf-8"))["log"]
    assert told == {"database": database(place), "origins": ["editor", "simulated"], "gate": None}
    rows = json.loads((run / FILE).read_text(encoding="utf-8"))["rows"]
    assert len(rows) >= metrics(run)[0]["logged/rows"] + whole["heldout"]["n"]
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(50 < row["memory/peak_mb"] < 6000 for row in every)
    assert "Peak memory" in Path(whole["report"]).read_text(encoding="utf-8")


def test_a_killed_run_goes_on_bit_for_bit_though_the_log_grew(place: Path, whole: dict[str, Any]) -> None:
    import torch

    steps = int(whole["steps"])
    run, _, _ = ended_after(command(place, "killed"), place / "runs", "killed", steps // 2, signal.SIGKILL)
    assert not (run / "manifest.json").exists()
    append_length_log(database(place), place / "model", seed=2, samples=20)
    again = told_by([*CODERL, "train", "--resume", str(run), "--json"])
    assert {name: again[name] for name in ("steps", "best", "heldout")} == {
        name: whole[name] for name in ("steps", "best", "heldout")
    }
    assert metrics(run) == metrics(Path(whole["run_dir"]))
    one, other = weights(Path(whole["run_dir"]), steps), weights(run, steps)
    for name, weight in one["weights"].items():
        assert torch.equal(weight, other["weights"][name]), name
    assert (run / "best" / "model.safetensors").read_bytes() == (
        Path(whole["run_dir"]) / "best" / "model.safetensors"
    ).read_bytes()
    resumed = (run / "resumed.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(resumed) == 1
    assert 0 < json.loads(resumed[0])["step"] < steps


def test_ctrl_c_leaves_a_run_and_says_how_it_goes_on(place: Path) -> None:
    run, status, said = ended_after(command(place, "stopped"), place / "runs", "stopped", 4, signal.SIGINT)
    assert status == 130
    last = said.splitlines()[-1]
    assert "Traceback" not in said
    assert last.startswith("coderl: interrupted. The run is safe up to step ")
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["reason"] == "interrupted"
    words = split(last.partition("go on with: coderl ")[2])
    assert words == ["train", "--resume", str(run)]
    told_by([*CODERL, *words, "--json"])
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"


FULL = """
import resource, sys
from coderl_server.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""
"""The command with files that cannot grow beyond a size, as on a full disk."""


def test_a_full_disk_is_told_in_a_sentence_and_gone_on_after(place: Path) -> None:
    """The first checkpoint fits; the next one holds the optimizer's state too and does not."""
    arguments = [CODERL[0], "-c", FULL, "150000", *command(place, "full")[len(CODERL) :]]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=200, env=environment())
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "checkpoints/000002 cannot be written" in last
    assert "The run is safe up to step 0; go on with: coderl train --resume " in last
    told_by([*CODERL, *split(last.partition("go on with: coderl ")[2]), "--json"])


def test_a_folder_of_runs_that_cannot_be_made_is_told_in_a_sentence(place: Path) -> None:
    done = subprocess.run(
        [*command(place, "nowhere"), "--runs", str(place / "log.db" / "runs")],
        capture_output=True, text=True, timeout=200, env=environment(),
    )  # fmt: skip
    assert done.returncode == 2
    assert "No folder for the run can be made" in done.stderr.splitlines()[-1]


def test_what_is_gone_from_the_log_is_not_learned_from_without_a_word(place: Path, tmp_path: Path) -> None:
    """Last of this module: it erases a programmer from the log."""
    run, _, _ = ended_after(command(place, "erased"), place / "runs", "erased", 2, signal.SIGKILL)
    log = Repository(database(place))
    try:
        assert log.erase("user-0") > 0
    finally:
        log.close()
    before = (run / "metrics.jsonl").read_bytes()
    resume = [*CODERL, "train", "--resume", str(run)]
    for more, said in (
        ((), "no longer in the log"),
        (("--database", f"sqlite:///{tmp_path / 'none.db'}"), "There is no log at"),
    ):
        done = subprocess.run([*resume, *more], capture_output=True, text=True, timeout=200, env=environment())
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert said in done.stderr.splitlines()[-1]
    assert (run / "metrics.jsonl").read_bytes() == before
