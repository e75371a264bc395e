"""`coderl train --engine tinker` through the real command and the real SDK, with a service of our own on the loopback: to its
end, and killed in the middle and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_training import command, place
from .training_runs import CODERL, ended_after, metrics, told_by

pytest.importorskip("peft", reason="the extra `train` is not installed")
pytest.importorskip("tinker", reason="the extra `tinker` is not installed")

from .tinker_server import KEY, TinkerService, serving

__all__ = ["place"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft's own
]
SHORT = ("--engine", "tinker", "--set", "grpo.steps=3", "--set", "lora_rank=4")


@pytest.fixture
def service(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinkerService]:
    made = TinkerService(place / "model")
    with serving(made) as url:
        monkeypatch.setenv("TINKER_BASE_URL", url)
        monkeypatch.setenv("TINKER_API_KEY", KEY)
        monkeypatch.setenv("TINKER_TELEMETRY", "0")
        yield made


def test_a_run_goes_to_its_end_and_a_killed_one_to_the_same_figures(place: Path, service: TinkerService) -> None:
    told = told_by(command(place, "hosted", *SHORT, "--json"))
    whole = Path(told["run_dir"])
    assert (whole / "best" / "adapter_model.safetensors").read_bytes() == service.exported["adapter_model.safetensors"]
    assert json.loads((whole / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert {"cross_entropy", "ppo"} <= set(service.losses)
    assert any(row.get("loss") is not None and row.get("grad_norm") and "reward" in row for row in metrics(whole))

    folder, _, _ = ended_after(command(place, "cut-off", *SHORT), place / "runs", "cut-off", told["steps"] - 2, signal.SIGKILL)
    assert not (folder / "manifest.json").exists()
    again = told_by([*CODERL, "train", "--resume", str(folder), "--json"])
    assert again["heldout"] == told["heldout"]
    assert metrics(folder) == metrics(whole)


def test_a_key_that_is_missing_is_told_in_a_sentence(
    place: Path, service: TinkerService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TINKER_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run(command(place, "wrong", *SHORT), capture_output=True, text=True, timeout=200, cwd=place)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "TINKER_API_KEY" in done.stderr.splitlines()[-1]
