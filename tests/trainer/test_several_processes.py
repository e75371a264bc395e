"""Two processes on the CPU learn what one learns: by the engine, and by the whole command as `accelerate launch` starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import coderl_trainer
from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail
from coderl_trainer.checkpoints import last_checkpoint
from coderl_trainer.processes import Alone

from .several import ENDS_WITHIN_S
from .several_steps import steps
from .test_training import GAPS, command, metrics
from .tiny_llama import make_tiny_llama, need_torch
from .training_runs import hears_ctrl_c

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * ENDS_WITHIN_S)]

CONFIGS = Path(coderl_trainer.__file__).parent / "accelerate_configs"
RANKS = (0, 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_torch()
    folder = tmp_path_factory.mktemp("several")
    make_tiny_llama(folder / "model")
    (folder / "gaps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in GAPS), encoding="utf-8")
    return folder


def launch(config: str, *what: str) -> list[str]:
    """The command line of two processes."""
    file = str(CONFIGS / f"{config}.yaml")
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file, "--num_processes", "2", *what]


def run(arguments: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=ENDS_WITHIN_S, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(folder: Path) -> dict[str, Any]:
    import torch

    held: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)["weights"]
    return held


def furthest(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest difference of two weights."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - one).abs().max()) for name, one in theirs.items())


@pytest.fixture(scope="module")
def one(place: Path) -> Path:
    """What one process comes to."""
    for rank in RANKS:
        steps(place / "model", place / "one" / str(rank), rank, Alone(launched=True))
    return place / "one"


@pytest.fixture(scope="module", params=["ddp", "fsdp", "zero3"])
def two(place: Path, request: pytest.FixtureRequest) -> Path:
    """What two processes come to, with the configurations that are shipped."""
    out = place / str(request.param)
    script = str(Path(__file__).with_name("several_steps.py"))
    run(launch(request.param, script, str(place / "model"), str(out), *map(str, RANKS)))
    return out


@pytest.mark.parametrize("rank", RANKS, ids=["full", "lora"])
def test_two_processes_learn_what_one_learns(place: Path, one: Path, two: Path, rank: int) -> None:
    ours, theirs = two / str(rank), one / str(rank)
    assert furthest(weights(ours / "sft"), weights(theirs / "sft")) < 1e-5
    assert furthest(weights(ours / "grpo"), weights(theirs / "grpo")) < 1e-5
    assert furthest(weights(ours / "grpo"), weights(ours / "sft")) > 1e-3
    found, expected = (json.loads((folder / "found.json").read_text(encoding="utf-8")) for folder in (ours, theirs))
    assert found["samples"] == expected["samples"]
    assert found["loop_state"] == {"step": "1"}
    for name, value in expected["told"].items():
        assert found["told"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    for name in ("logprobs", "logprobs_of_sft"):
        for mine, their in zip(found[name], expected[name], strict=True):
            assert mine == pytest.approx(their, abs=1e-4)
    assert furthest_of_models(ours / "model", theirs / "model") < 1e-5


def furthest_of_models(ours: Path, theirs: Path) -> float:
    """The largest difference between what others would load."""
    from safetensors.torch import load_file

    (file,) = (one.name for one in theirs.glob("*.safetensors"))
    return furthest(load_file(ours / file), load_file(theirs / file))


def test_what_two_wrote_one_goes_on_with(place: Path, two: Path) -> None:
    from coderl_trainer.engine import Loss, LossSettings
    from coderl_trainer.local_engine import LocalEngine, LocalOptions

    from .engine_contract import STEP, rows

    engine = LocalEngine(LocalOptions(place / "model", lora_rank=4, threads=1))
    assert engine.load_state(two / "4" / "sft") == {"step": "1"}
    engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
    assert engine.optim_step(STEP)["grad_norm"] > 0
    assert engine.publish() == 2


def test_a_launched_run_that_lost_a_process_goes_on_to_the_weights_of_one_process(place: Path) -> None:
    try:
        open_jail("bwrap")
    except JailUnavailable as error:
        pytest.skip(str(error))
    alone = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    whole = json.loads(run([*alone, *command(place, "whole", "--json")[1:]]))
    steps = int(whole["steps"])
    killed = _killed_in_the_middle(launch("ddp", *command(place, "killed")[1:]), place, steps - 3)
    again = launch("ddp", "-m", "coderl_server", "train", "--resume", str(killed), "--json")
    told = json.loads(run(again))
    assert told["heldout"] == whole["heldout"]
    assert told["best"] == whole["best"]
    ours, theirs = Path(told["run_dir"]), Path(whole["run_dir"])
    name = f"checkpoints/{steps:06d}"
    assert furthest(weights(ours / name), weights(theirs / name)) < 1e-4
    assert [row["step"] for row in metrics(ours)] == list(range(steps + 1))
    assert len(list(place.glob("runs/*"))) == 2, "only the first process makes a folder"


def _killed_in_the_middle(arguments: list[str], place: Path, step: int) -> Path:
    """The folder of a run of which the second process was killed after `step`; the launcher has ended with an error."""
    child = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + ENDS_WITHIN_S
        while not (found := list(place.glob(f"runs/*-killed/checkpoints/{step:06d}/engine.json"))):
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
            assert time.monotonic() < give_up, f"no checkpoint of step {step}"
            time.sleep(0.02)
        os.kill(_second_process(child.pid), signal.SIGKILL)
        _, said = child.communicate(timeout=ENDS_WITHIN_S)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate(timeout=ENDS_WITHIN_S)
    assert child.returncode != 0
    assert "SIGKILL" in said
    return found[0].parents[2]


def test_ctrl_c_ends_all_and_the_first_says_how_it_goes_on(place: Path) -> None:
    """As a terminal sends it: to the launcher and all its processes at once; the launcher sends it to them again."""
    name = "interrupted"
    what = command(place, name, "--unjailed-because", "the model of this test writes noise")[1:]
    with (place / f"{name}.txt").open("w+", encoding="utf-8") as said:
        child = subprocess.Popen(
            launch("ddp", *what),
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=hears_ctrl_c,
        )
        try:
            give_up = time.monotonic() + ENDS_WITHIN_S
            while not (found := list(place.glob(f"runs/*-{name}/checkpoints/000001/engine.json"))):
                assert child.poll() is None, Path(said.name).read_text(encoding="utf-8")
                assert time.monotonic() < give_up, "no checkpoint"
                time.sleep(0.02)
            os.killpg(child.pid, signal.SIGINT)
            child.wait(timeout=ENDS_WITHIN_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(timeout=ENDS_WITHIN_S)
    words = Path(said.name).read_text(encoding="utf-8")
    run = found[0].parents[2]
    step, _ = last_checkpoint(run)
    way_on = f"coderl: interrupted. The run is safe up to step {step}; go on with: coderl train --resume {run}\n"
    assert words.count(way_on) == words.count("--resume") == 1, words
    assert re.search("coderl: process 1 of 2 was interrupted.|terminate called", words), words  # gloo's own end, as above
    assert not re.search(r'File ".*/coderl_(server|trainer)/', words), words
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["status"], manifest["reason"]) == ("failed", "interrupted")


def _second_process(launcher: int) -> int:
    """Process id of the one with RANK=1 among the children of the launcher."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="ascii").split()
    (second,) = (one for one in children if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{one}/environ").read_bytes())
    return int(second)
