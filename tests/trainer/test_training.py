"""`coderl train` through the real command, on a model of two layers: to its end, and killed in the middle and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail
from coderl_trainer.run_reading import template_of

from .tiny_llama import make_tiny_llama, need_torch
from .training_runs import CODERL, append_length_log, ended_after, metrics, told_by

pytestmark = pytest.mark.slow

GAPS = [
    {"id": f"gap/{n}", "kind": "infill", "prompt": f"def double_{n}(x):\n    y =", "suffix": "\n    return y\n",
     "tests": [f"assert double_{n}({x}) == {2 * x}" for x in (1, 2, 5, 7)], "entry_point": f"double_{n}",
     "reference": " 2 * x"}
    for n in range(24)
] + [
    {"id": f"kept/{n}", "kind": "infill", "prompt": f"def triple_{n}(x):\n    y =", "suffix": "\n    return y\n",
     "reference": " 3 * x"}
    for n in range(24)
]  # fmt: skip
SETTINGS = (
    "sft.epochs=1", "sft.batch_tokens=200", "grpo.steps=6", "grpo.groups=2", "grpo.samples=4", "grpo.max_tokens=6",
    "grpo.evaluate_every=3", "grpo.resample=1", "grpo.mask_truncated=false", "checkpoint_every=1",
    "rewards.weights.binary=0", "rewards.weights.agreement=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_torch()
    try:
        open_jail("bwrap")
    except JailUnavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("training")
    make_tiny_llama(folder / "model")
    (folder / "gaps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in GAPS), encoding="utf-8")
    return folder


def command(place: Path, name: str, *more: str) -> list[str]:
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return [
        *CODERL, "train", "--model", str(place / "model"), "--tasks", str(place / "gaps.jsonl"),
        "--name", name, "--runs", str(place / "runs"), *settings, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return told_by(command(place, "whole", "--json"))


def test_a_run_leaves_everything_that_belongs_to_it(whole: dict[str, Any]) -> None:
    folder = Path(whole["run_dir"])
    rows = metrics(folder)
    assert set(whole) == {"run_dir", "steps", "best", "heldout", "report"}
    assert [row["step"] for row in rows] == list(range(whole["steps"] + 1))
    assert whole["heldout"]["n"] == rows[0]["heldout/n"] > 0
    assert any(row.get("loss") is not None and "reward" in row for row in rows)
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert (folder / "best" / "adapter_config.json").is_file()
    assert (folder / "report.html").is_file()
    held_out = [json.loads(line) for line in (folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(held_out) == whole["heldout"]["n"]
    assert sum(row["solved"] for row in held_out) == round(whole["heldout"]["after"] * len(held_out))
    assert sum(row["solved_before"] for row in held_out) == round(whole["heldout"]["before"] * len(held_out))
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {sample["step"] for sample in samples} == {row["step"] for row in rows if "groups" in row}


def test_a_run_that_was_killed_goes_on_to_the_same_weights(place: Path, whole: dict[str, Any]) -> None:
    import torch

    steps = int(whole["steps"])
    folder, _, _ = ended_after(command(place, "killed"), place / "runs", "killed", steps - 3, signal.SIGKILL)
    assert not (folder / "manifest.json").exists()
    again = told_by([*CODERL, "train", "--resume", str(folder), "--json"])
    assert again["heldout"] == whole["heldout"]
    assert again["best"] == whole["best"]
    assert metrics(folder) == metrics(Path(whole["run_dir"]))
    states = [
        torch.load(Path(one) / "checkpoints" / f"{steps:06d}" / "state.pt", weights_only=True)
        for one in (whole["run_dir"], folder)
    ]
    for name, weight in states[0]["weights"].items():
        assert torch.equal(weight, states[1]["weights"][name]), name


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "grpo.step=1"), "grpo.step is not known"),
        (("--tasks", "absent.jsonl"), "absent.jsonl"),
        (("--resume", "absent"), "absent"),
        (("--model", "absent.gguf"), "absent.gguf"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_sentence(place: Path, more: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*command(place, "wrong"), *more], capture_output=True, text=True, timeout=120, cwd=place)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert said in done.stderr.splitlines()[-1]


def test_a_log_is_learned_from(place: Path, tmp_path: Path) -> None:
    """A simulated log in which longer right suggestions save more: what is learned from it saves more, in that same world."""
    from coderl_trainer.length_world import PROMPTS, LengthWorld, write_length_model
    from coderl_trainer.local_engine import LocalEngine, LocalOptions
    from coderl_trainer.types import SamplingParameters

    model = write_length_model(tmp_path / "model")
    database = f"sqlite:///{tmp_path / 'log.db'}"
    append_length_log(database, model, seed=1)
    engine = LocalEngine(LocalOptions(model, lora_rank=0, threads=1))
    prompts = [engine.encode(prompt) for prompt in PROMPTS]
    arguments = [
        *CODERL, "train", "--from-log", "--database", database, "--model", str(model),
        "--runs", str(tmp_path / "runs"), "--set", "lora_rank=0", "--set", "logged.learning_rate=2e-3",
        "--set", "logged.batch_tokens=1500", "--set", "logged.beta=0.3", "--set", "logged.epochs=4", "--json",
    ]  # fmt: skip
    told = told_by([*arguments, "--include-simulated"])
    held = told["heldout"]
    assert held["n"] > 0
    assert held["difference"]["estimate"] == pytest.approx(held["after"] - held["before"])
    learned = LocalEngine(LocalOptions(Path(told["run_dir"]) / "best", lora_rank=0, threads=1))

    def saved(engine: LocalEngine) -> float:
        samples = [one for group in engine.sample(prompts, 150, SamplingParameters(32, seed=2)) for one in group]
        return LengthWorld().figures(samples, [engine.decode(one.tokens) for one in samples])["seconds"]

    assert saved(learned) > saved(engine) + 0.2
    refused = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_a_template_is_taught(place: Path, tmp_path: Path) -> None:
    """What is measured before is the untrained model on prompts that it knows; what is exported says what it was taught."""
    control = ("<jupyter_text>", "<jupyter_code>")
    make_tiny_llama(tmp_path / "model", control=control)
    taught = (
        "--model", str(tmp_path / "model"), "--set", "template=smollm2-spm", "--set", "template_before=plain",
        "--set", "grpo.steps=1", "--json",
    )  # fmt: skip
    told = told_by(command(place, "taught", *taught))
    run = Path(told["run_dir"])
    before = metrics(run)[0]
    plain = told_by(command(place, "untaught", "--model", str(tmp_path / "model"), "--set", "grpo.steps=1", "--json"))
    assert before["heldout/solve"] == metrics(Path(plain["run_dir"]))[0]["heldout/solve"]
    assert told["best"]["step"] > 0
    assert template_of(run / "best") == "smollm2-spm"
    prompts = [json.loads(line)["prompt"] for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert prompts
    assert all(prompt.startswith(control[0]) and control[1] in prompt for prompt in prompts)


def test_a_template_that_the_model_has_no_tokens_for_is_refused(place: Path) -> None:
    done = subprocess.run(
        command(place, "refused", "--set", "template=smollm2-spm"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "has no <jupyter_text>, <jupyter_code> in its vocabulary" in done.stderr
