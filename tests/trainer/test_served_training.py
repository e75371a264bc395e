"""Samples by a server with a real model behind the double: the battery of engines, and `coderl train` to its end."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coderl_generator.vllm_client import VllmClient
from coderl_trainer.checkpoints import last_checkpoint
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.lora import read_lora
from coderl_trainer.run_reading import changed_files, read_run
from coderl_trainer.served_engine import ServedEngine, ServedOptions

from .engine_contract import EngineContract
from .test_training import GAPS, command
from .tiny_llama import make_tiny_llama, need_torch
from .training_runs import environment, told_by
from .vllm_double import Serves, VllmDouble, Weights, vllm_double

torch = need_torch()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture
def server(model: Path) -> Iterator[VllmDouble]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def text(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    with vllm_double(weights_of(model), text) as double:
        yield double


def weights_of(folder: Path) -> Weights:
    """Models of transformers; what an adapter adds is read by our own reader of its files, not by peft."""
    from transformers import AutoModelForCausalLM

    def model(adapter: Path | None) -> Any:
        made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        if adapter is not None:
            lora = read_lora(adapter)
            with torch.no_grad():
                for name in lora.modules:
                    made.get_submodule(name).weight += torch.from_numpy(lora.delta(name))

        def after(tokens: Sequence[int]) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(torch.log_softmax(made(torch.tensor([tokens])).logits[0].double(), -1))

        return after

    return model


class TestContract(EngineContract):
    """With rows that nobody sampled, so any distance is allowed and nothing is weighed."""

    @pytest.fixture
    def engine(self, model: Path, server: VllmDouble, tmp_path: Path) -> Iterator[ServedEngine]:
        options = ServedOptions("battery", tmp_path / "adapters", tolerance_nats=math.inf, truncate_at=0.0)
        with contextlib.closing(VllmClient(server.address)) as client:
            yield ServedEngine(LocalEngine(LocalOptions(model, lora_rank=4, threads=1)), client, options)


@pytest.fixture
def place(model: Path) -> Path:
    """As `test_training.command` wants it."""
    (model.parent / "gaps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in GAPS[24:]), encoding="utf-8")
    return model.parent


def by(server: VllmDouble, *more: str) -> list[str]:
    return ["--set", f"rollouts.server={server.address}", "--set", "grpo.steps=2", *more]


@pytest.mark.slow
def test_a_run_is_sampled_by_the_server(place: Path, server: VllmDouble) -> None:
    told = told_by(command(place, "served", *by(server, "--json")))
    folder = Path(told["run_dir"])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    learned = [row for row in rows if "rollouts/logprob_gap_mean" in row]
    assert learned
    for row in learned:
        assert row["rollouts/logprob_gap_max"] < 1e-3
        assert row["rollouts/weight_mean"] == pytest.approx(1.0, abs=1e-3)
        assert row["rollouts/told_apart"] == 1.0
    versions = [body["lora_name"].partition("@")[2].partition("-")[0] for body in server.asked("/v1/load_lora_adapter")]
    assert versions[: 1 + len(learned)] == [f"v{number}" for number in range(1, 2 + len(learned))]
    assert not server.adapters
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert samples
    assert changed_files(read_run(folder)) == []
    drawn = {body["model"].partition("@")[0] for body in server.asked("/v1/completions") if body.get("prompt_logprobs") is None}
    assert drawn == {f"coderl-{folder.name}"}


@pytest.mark.slow
def test_a_run_stops_where_the_server_serves_the_base_model(place: Path, server: VllmDouble) -> None:
    server.serves = Serves.BASE
    with pytest.raises(AssertionError, match=r"--enable-lora --max-lora-rank 16") as said:
        told_by(command(place, "base", *by(server)))
    assert "Traceback" not in str(said.value)
    (folder,) = place.glob("runs/*-base")
    step, _ = last_checkpoint(folder)
    assert f"The run is safe up to step {step}; go on with: coderl train --resume {folder}" in str(said.value)
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["status"] == "failed"


@pytest.mark.slow
def test_a_run_whose_server_died_says_how_it_goes_on(place: Path, server: VllmDouble) -> None:
    server.dies_after = 2
    done = subprocess.run(command(place, "died", *by(server)), capture_output=True, text=True, timeout=280, env=environment())
    (folder,) = place.glob("runs/*-died")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    step, _ = last_checkpoint(folder)
    assert "the engine is dead" in last
    assert last.endswith(f"The run is safe up to step {step}; go on with: coderl train --resume {folder}")
    assert "Traceback" not in done.stderr
