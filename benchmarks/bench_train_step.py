"""One GRPO step with our engine `local` and with TRL's GRPOTrainer, in one process.

8 prompts of the shipped tasks × 8 samples × 48 tokens with the embedded model unpacked to float32, LoRA of rank 16 on all
linear layers, no reference model, the DAPO loss; prompts, shapes and learning rate are the same on both sides. TRL trains;
after each of its steps, its callback lets ours take one, so that both meet the same machine. The first pair is warm-up. TRL
gets 8 micro-batches of 8 rows; ours packs as it likes. The end of sequence is set to a token that is never drawn, so that
every sample has 48 tokens on both sides.

Split: sample (TRL: with its tokenising and decoding), judge (a checksum of the text, so that no group is of one mind and both
pay next to nothing for it; ours: with decoding), learn (loss, gradients, optimizer; ours: with publishing the weights to the
sampler). Second part: half of the prompts get one reward for all samples. TRL learns from those rows all the same, ours leaves
them out before the backward pass.

Promised: 2 times faster, and 3 times with half of the groups degenerate. Processor time is given beside wall time: on a busy
machine it is the steadier of the two (with `OMP_NUM_THREADS=1`; waiting threads count as busy).

Run: python benchmarks/bench_train_step.py [--quick] [--prompts N] [--steps N]; needs coderl[train,trl] and the embedded model,
of which it makes its own copy in Hugging Face's form. It prints one JSON object, with the promises that do not hold under
`missed`; the exit status is 1 where there is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coderl_generator.errors import ModelMissing
from coderl_generator.hf_copy import hf_copy
from coderl_generator.models import find_model
from coderl_store.home import home
from coderl_trainer.advantages import degenerate, group_advantages
from coderl_trainer.engine import Loss, LossSettings, StepSettings
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.local_model import TARGETS
from coderl_trainer.tasks import shipped_tasks
from coderl_trainer.types import Datum, SamplingParameters

LIBRARIES = ("torch", "transformers", "peft", "datasets", "trl", "gguf")
NEVER_DRAWN = "<empty_output>"
SEED = 7
RATE = 1e-5
TIMES, TIMES_DEGENERATE = 2.0, 3.0

Reward = Callable[[str, str], float]
"""Of prompt and text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a step has to do."""

    prompts: int
    samples: int
    tokens: int
    steps: int
    """Measured ones, after one of warm-up."""
    micro_batch: int


FULL = Shape(prompts=8, samples=8, tokens=48, steps=3, micro_batch=8)
QUICK = Shape(prompts=2, samples=4, tokens=8, steps=1, micro_batch=4)


@dataclass(slots=True)
class Times:
    """Seconds of each step, wall and processor, by what was done; and how many tokens were drawn."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    last: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self.last = (time.perf_counter(), time.process_time())

    def lap(self, name: str) -> None:
        """What has passed since `start` or the last `lap` was `name`."""
        now = (time.perf_counter(), time.process_time())
        self.wall.setdefault(name, []).append(now[0] - self.last[0])
        self.cpu.setdefault(name, []).append(now[1] - self.last[1])
        self.last = now

    def figures(self) -> dict[str, Any]:
        """Medians of the steps after the first."""
        told: dict[str, Any] = {f"{name}_s": statistics.median(values[1:]) for name, values in self.wall.items()}
        told["step_s"] = statistics.median(self._sums(self.wall))
        told["step_cpu_s"] = statistics.median(self._sums(self.cpu))
        told["tokens"] = self.tokens[-1]
        return told

    @staticmethod
    def _sums(laps: dict[str, list[float]]) -> list[float]:
        return [sum(step) for step in zip(*laps.values(), strict=True)][1:]


def run(*, quick: bool = False) -> dict[str, Any]:
    """The figures; raises `AssertionError` where a promise does not hold, which only the full shape makes."""
    told = measured(QUICK if quick else FULL)
    missed = told.pop("missed", [])
    assert not missed, "; ".join(missed)
    return told


def measured(shape: Shape) -> dict[str, Any]:
    """The figures, with what they miss in words under `missed`."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        return {"skipped": f"{', '.join(missing)} not installed (the extra `train`, and trl)"}
    try:
        model = find_model(home())
    except ModelMissing as error:
        return {"skipped": str(error)}
    warnings.simplefilter("ignore")  # TRL's and transformers' own
    with tempfile.TemporaryDirectory() as scratch:
        folder = _endless(hf_copy(model, Path(scratch) / "model"))
        engine = LocalEngine(LocalOptions(model=folder, lora_rank=16, lora_alpha=32.0))
        prompts = _prompts(shape.prompts)
        told = {
            "mean_prompt_tokens": statistics.fmean(len(engine.tokenizer(one)["input_ids"]) for one in prompts),
            "threads": int(engine._torch.get_num_threads()),
            "all_groups": _pair(engine, folder, prompts, shape, _checksum, Path(scratch) / "all"),
        }
        half = frozenset(prompts[: len(prompts) // 2])
        flat = lambda prompt, text: 0.0 if prompt in half else _checksum(prompt, text)  # noqa: E731
        told["half_degenerate"] = _pair(engine, folder, prompts, shape, flat, Path(scratch) / "half")
    told["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    promises = (("all_groups", TIMES), ("half_degenerate", TIMES_DEGENERATE)) if shape.prompts >= FULL.prompts else ()
    told["missed"] = [
        f"{part}: {told[part]['times_faster']:.2f} times faster, promised {least}"
        for part, least in promises
        if told[part]["times_faster"] < least
    ]
    return told


def _pair(engine: LocalEngine, folder: Path, prompts: Sequence[str], shape: Shape, reward: Reward, out: Path) -> dict[str, Any]:
    ours, theirs = Times(), Times()
    trainer = _trl_trainer(folder, prompts, shape, reward, out, theirs, lambda: _step(engine, prompts, shape, reward, ours))
    trainer.train()
    told = {"coderl": ours.figures(), "trl": theirs.figures()}
    told["times_faster"] = told["trl"]["step_s"] / told["coderl"]["step_s"]
    told["times_less_cpu"] = told["trl"]["step_cpu_s"] / told["coderl"]["step_cpu_s"]
    wanted = shape.prompts * shape.samples * shape.tokens
    assert ours.tokens[-1] == theirs.tokens[-1] == wanted, (
        f"not the same work: {ours.tokens[-1]} and {theirs.tokens[-1]} tokens"
    )
    return told


def _step(engine: LocalEngine, prompts: Sequence[str], shape: Shape, reward: Reward, times: Times) -> None:
    """One step of ours."""
    times.start()
    prompts_P = [engine.tokenizer(prompt)["input_ids"] for prompt in prompts]
    groups = engine.sample(prompts_P, shape.samples, SamplingParameters(max_tokens=shape.tokens))
    times.tokens.append(sum(len(sample.tokens) for group in groups for sample in group))
    times.lap("sample")
    rewards_PG = [
        [reward(prompt, engine.tokenizer.decode(sample.tokens)) for sample in group]
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    times.lap("judge")
    rows = []
    for prompt, group, rewards_G in zip(prompts_P, groups, rewards_PG, strict=True):
        if degenerate(rewards_G) is None:
            for sample, advantage in zip(group, group_advantages(rewards_G), strict=True):
                everything, before = (*prompt, *sample.tokens), (0.0,) * (len(prompt) - 1)
                count = len(sample.tokens)
                rows.append(
                    Datum(
                        input_tokens=everything[:-1],
                        target_tokens=everything[1:],
                        behaviour_logprobs=before + sample.logprobs,
                        advantages=before + (advantage,) * count,
                        mask=before + (1.0,) * count,
                    )
                )
    engine.forward_backward(rows, LossSettings(Loss.PPO))
    engine.optim_step(StepSettings(learning_rate=RATE))
    engine.publish()
    times.lap("learn")


def _trl_trainer(
    folder: Path, prompts: Sequence[str], shape: Shape, reward: Reward, out: Path, times: Times, between: Callable[[], None]
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    def judged(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        times.lap("sample")
        times.tokens.append(sum(map(len, completion_ids)))
        found = [reward(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        times.lap("judge")
        return found

    class Alternating(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.lap("learn")
            between()

    rows = shape.prompts * shape.samples
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(str(folder)),
        reward_funcs=judged,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        peft_config=LoraConfig(r=16, lora_alpha=32.0, target_modules=list(TARGETS), task_type="CAUSAL_LM"),
        callbacks=[Alternating()],
        args=GRPOConfig(
            output_dir=str(out),
            use_cpu=True,
            bf16=False,
            seed=SEED,
            learning_rate=RATE,
            per_device_train_batch_size=shape.micro_batch,
            gradient_accumulation_steps=rows // shape.micro_batch,
            num_generations=shape.samples,
            max_completion_length=shape.tokens,
            max_steps=shape.steps + 1,
            gradient_checkpointing=False,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        ),
    )
    trainer.remove_callback(PrinterCallback)  # standard output is for the figures
    return trainer


def _prompts(count: int) -> list[str]:
    texts = sorted({task.prompt for task in shipped_tasks()})
    return random.Random(SEED).sample(texts, count)


def _checksum(prompt: str, text: str) -> float:
    return float(zlib.crc32(text.encode()) % 2)


def _endless(folder: Path) -> Path:
    """The model, with an end of sequence that it never draws."""
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    end = next(token["id"] for token in tokens if token["content"] == NEVER_DRAWN)
    for name, value in (("config", end), ("generation_config", end), ("tokenizer_config", NEVER_DRAWN)):
        file = folder / f"{name}.json"
        held = json.loads(file.read_text(encoding="utf-8"))
        held["eos_token" if name == "tokenizer_config" else "eos_token_id"] = value
        file.write_text(json.dumps(held), encoding="utf-8")
    return folder


def _main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two prompts, four samples, eight tokens: finds what is broken")
    parser.add_argument("--prompts", type=int, default=FULL.prompts, help="fewer of them: nothing is promised then")
    parser.add_argument("--steps", type=int, default=FULL.steps, help="measured steps, after one of warm-up")
    given = parser.parse_args()
    shape = QUICK if given.quick else replace(FULL, prompts=given.prompts, steps=given.steps)
    told = measured(shape)
    print(json.dumps(told, indent=2))
    return 1 if told.get("missed") else 0


if __name__ == "__main__":
    sys.exit(_main())
