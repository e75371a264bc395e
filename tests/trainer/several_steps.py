"""What the processes of tests/trainer/test_several_processes.py run: `python several_steps.py MODEL OUT RANK LORA_RANK…`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from coderl_trainer.engine import Loss, LossSettings, StepSettings
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.processes import Launched, Processes, follow, launched
from coderl_trainer.types import Datum, SamplingParameters

PROMPTS = ((5, 6, 7), (8, 9), (10, 11, 12, 13))
SAMPLES = 3
STEP = StepSettings(learning_rate=1e-2)


def steps(model: Path, out: Path, lora_rank: int, processes: Processes) -> None:
    """A supervised step, then one on the engine's own samples, each published and saved; odd numbers of packs and prompts."""
    engine = LocalEngine(LocalOptions(model, lora_rank=lora_rank, threads=1, max_positions=12), processes)
    rows = [_row(prompt, (20 + at, 21, 22), 1.0, (0.0,) * 3) for at, prompt in enumerate(PROMPTS)]
    engine.forward_backward(rows, LossSettings(Loss.CROSS_ENTROPY))
    engine.optim_step(STEP)
    engine.publish()
    engine.save_state(out / "sft", {"step": "1"})
    groups = engine.sample(PROMPTS, SAMPLES, SamplingParameters(max_tokens=6))
    rows = [
        _row(prompt, sample.tokens, 1.0 if at else -1.0, sample.logprobs)
        for prompt, group in zip(PROMPTS, groups, strict=True)
        for at, sample in enumerate(group)
    ]
    told = dict(engine.forward_backward(rows, LossSettings(Loss.PPO, kl=0.1, entropy=0.01)))
    told |= engine.optim_step(STEP)
    engine.publish()
    engine.save_state(out / "grpo", {"step": "2"})
    engine.save_model(out / "model")
    after = engine.sample(PROMPTS[:1], SAMPLES, SamplingParameters(max_tokens=6, seed=3))
    found = {
        "told": told,
        "samples": [sample.tokens for group in (*groups, *after) for sample in group],
        "logprobs": engine.logprobs(rows),
        "loop_state": dict(engine.load_state(out / "sft")),
        "logprobs_of_sft": engine.logprobs(rows),
    }
    (out / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _row(prompt: tuple[int, ...], tokens: tuple[int, ...], advantage: float, behaviour: tuple[float, ...]) -> Datum:
    before, everything = len(prompt) - 1, prompt + tokens
    zeros = (0.0,) * before
    return Datum(
        everything[:-1],
        everything[1:],
        zeros + behaviour,
        zeros + (advantage,) * len(tokens),
        zeros + (1.0,) * len(tokens),
    )


def main() -> None:
    model, out, *ranks = sys.argv[1:]
    with launched(wait_s=120) as processes:
        if isinstance(processes, Launched) and processes.rank:
            follow(processes, LocalEngine)
            return
        for rank in ranks:
            steps(Path(model), Path(out) / rank, int(rank), processes)


if __name__ == "__main__":
    main()
