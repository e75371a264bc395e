"""Our losses and advantages against TRL's own code, on the same tiny model: value, and gradient of every weight.

TRL's private `_compute_loss` is called with inputs made here; so this file says which versions it was written for.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.advantages import Scale, group_advantages
from coderl_trainer.engine import Loss, LossSettings, Normalisation
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.trl_adapter import LOSSES
from coderl_trainer.types import Datum

from .tiny_llama import datum, make_tiny_llama, need_torch

torch = need_torch()
FIRST, BEYOND = (1, 14), (1, 17)
PROMPTS = ((5, 6, 7), (10, 11))
ROWS = (
    (0, (20, 21, 22, 23), 1.4),
    (0, (24, 25, 26), -0.7),
    (1, (27, 28, 29, 30, 31), 0.9),
    (1, (32,), -1.6),
)
SHIFTS = (-0.5, 0.1, 0.4, -0.2, 0.35, 0.0, -0.4)
"""What is added to the model's own log-probs to make another behaviour policy: some tokens are clipped on each side."""


@pytest.fixture(scope="module")
def trl() -> Any:
    try:
        version = tuple(int(part) for part in importlib.metadata.version("trl").split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("trl is not installed")
    if not FIRST <= version < BEYOND:
        pytest.skip(f"trl {version} is not among the versions that this was written for, {FIRST} up to {BEYOND}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl
        from trl import GRPOTrainer, KTOTrainer  # noqa: F401  (TRL imports them when they are named)
    return trl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """TRL's and transformers' own warnings are not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def engine_of(folder: Path) -> LocalEngine:
    return LocalEngine(LocalOptions(model=folder, lora_rank=0, threads=1, max_positions=16))


def batch(engine: LocalEngine) -> list[Datum]:
    """The rows, with a behaviour policy that is `SHIFTS` away from the model."""
    plain = [datum(PROMPTS[prompt], tokens) for prompt, tokens, _ in ROWS]
    rows, count = [], 0
    for (prompt, tokens, advantage), logprobs in zip(ROWS, engine.logprobs(plain), strict=True):
        behaviour = tuple(min(0.0, value - SHIFTS[(count + at) % len(SHIFTS)]) for at, value in enumerate(logprobs))
        count += len(tokens)
        rows.append(datum(PROMPTS[prompt], tokens, advantage=advantage, behaviour=behaviour))
    return rows


def grpo_trainer(trl: Any, folder: Path, out: Path, reward: Any = None, **options: Any) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = {
        "output_dir": str(out),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 4,
        "max_steps": 1,
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "use_bias_correction_kl": False,
        **options,
    }
    return trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(str(folder)),
        reward_funcs=reward or (lambda completions, **_: [0.0] * len(completions)),
        args=trl.GRPOConfig(**settings),
        train_dataset=Dataset.from_list([{"prompt": "def add(a, b):"}] * 4),
    )


def padded(values: list[list[Any]], fill: Any, *, left: bool = False) -> Any:
    longest = max(map(len, values))
    return torch.tensor(
        [[fill] * (longest - len(one)) + one if left else one + [fill] * (longest - len(one)) for one in values]
    )


def their_inputs(rows: list[Datum], reference: list[list[float]]) -> dict[str, Any]:
    prompts = [list(PROMPTS[prompt]) for prompt, _, _ in ROWS]
    answers = [list(tokens) for _, tokens, _ in ROWS]
    behaviour = [[value for value, counts in zip(row.behaviour_logprobs, row.mask, strict=True) if counts] for row in rows]
    return {
        "prompt_ids": padded(prompts, 0, left=True),
        "prompt_mask": padded([[1] * len(one) for one in prompts], 0, left=True),
        "completion_ids": padded(answers, 0),
        "completion_mask": padded([[1] * len(one) for one in answers], 0),
        "advantages": torch.tensor([advantage for _, _, advantage in ROWS]),
        "old_per_token_logps": padded(behaviour, 0.0),
        "ref_per_token_logps": padded(reference, 0.0),
        "num_items_in_batch": torch.tensor(sum(map(len, answers))),
    }


def gradients(model: Any) -> dict[str, Any]:
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_same_gradients(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(float(one.abs().max()) for one in theirs.values())
    assert largest > 1e-3
    for name, one in theirs.items():
        torch.testing.assert_close(
            ours[name], one, rtol=1e-3, atol=2e-6 * max(1.0, largest), msg=lambda text, name=name: f"{name}: {text}"
        )


CASES = [
    (LossSettings(Loss.PPO, Normalisation.SEQUENCES), {"loss_type": "grpo"}),
    (LossSettings(Loss.PPO, Normalisation.CONSTANT, constant_tokens=4), {"loss_type": "dr_grpo"}),
    (LossSettings(Loss.PPO, Normalisation.TOKENS), {"loss_type": "dapo"}),
    (
        LossSettings(Loss.PPO, epsilon_low=0.15, epsilon_high=0.3),
        {"loss_type": "dapo", "epsilon": 0.15, "epsilon_high": 0.3},
    ),
    (LossSettings(Loss.GSPO, Normalisation.SEQUENCES), {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    # TRL's bound of CISPO is the largest ratio itself, ours what lies above 1.
    (LossSettings(Loss.CISPO, epsilon_high=0.3), {"loss_type": "cispo", "epsilon_high": 1.3}),
    (LossSettings(Loss.PPO, Normalisation.SEQUENCES, kl=0.1), {"loss_type": "grpo", "beta": 0.1}),
    (LossSettings(Loss.PPO, kl=0.1), {"loss_type": "dapo", "beta": 0.1}),
    (LossSettings(Loss.PPO, entropy=0.05), {"loss_type": "dapo", "entropy_coef": 0.05}),
]


def test_the_adapter_calls_the_losses_as_they_are_compared_here() -> None:
    names = ("loss_type", "importance_sampling_level")
    told = [((one.loss, one.normalisation), {key: theirs[key] for key in names if key in theirs}) for one, theirs in CASES]
    assert all(LOSSES[which] == theirs for which, theirs in told)
    assert LOSSES.keys() == {which for which, _ in told}


@pytest.mark.parametrize(
    ("settings", "theirs"),
    CASES,
    ids=["grpo", "dr_grpo", "dapo", "two clips", "gspo", "cispo", "grpo with kl", "dapo with kl", "dapo with entropy"],
)
def test_a_loss_is_theirs(trl: Any, folder: Path, tmp_path: Path, settings: LossSettings, theirs: dict[str, Any]) -> None:
    engine = engine_of(folder)
    rows = batch(engine)
    reference = engine.logprobs(rows)
    if settings.kl:  # away from the reference, else the divergence is 0 on both sides
        with torch.no_grad():
            for one in engine._trained.values():
                one.mul_(1.02)
    told = engine.forward_backward(rows, settings)

    trainer = grpo_trainer(trl, folder, tmp_path, **theirs)
    trainer.model.load_state_dict(engine._model.state_dict())
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, their_inputs(rows, reference))
    loss.backward()

    assert told["loss"] == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-6)
    assert_same_gradients(gradients(engine._model), gradients(trainer.model))
    if settings.kl:
        assert told["kl"] > 1e-3
        assert told["kl"] == pytest.approx(trainer._metrics["train"]["kl"][0], rel=1e-3)
    if settings.entropy:
        assert told["entropy"] == pytest.approx(trainer._metrics["train"]["entropy"][0], rel=1e-4)
    if settings.loss is Loss.PPO:
        assert told["clip_share"] > 0
        assert told["clip_share"] == pytest.approx(trainer._metrics["train"]["clip_ratio/region_mean"][0])


@pytest.mark.parametrize(("scale", "theirs"), [(Scale.STD, "group"), (Scale.NONE, "none")])
def test_advantages_are_theirs(trl: Any, folder: Path, tmp_path: Path, scale: Scale, theirs: str) -> None:
    """TRL divides by the standard deviation of a sample plus 1e-4, we by that of a population: their ratio is √((n−1)/n)."""
    rewards = [1.0, 0.0, 0.25, 0.25]
    trainer = grpo_trainer(trl, folder, tmp_path, lambda completions, **_: rewards, scale_rewards=theirs)
    trainer.train()
    told = list(trainer._logs["advantages"])
    ours = group_advantages(rewards, scale=scale)
    factor = 1.0 if scale is Scale.NONE else (3 / 4) ** 0.5
    assert [factor * one for one in ours] == pytest.approx(told, rel=1e-3)


def test_rows_without_a_reward_are_theirs(trl: Any, folder: Path, tmp_path: Path) -> None:
    rewards = [1.0, None, 0.25, 0.25]
    trainer = grpo_trainer(trl, folder, tmp_path, lambda completions, **_: rewards, scale_rewards="none")
    trainer.train()
    assert group_advantages(rewards, scale=Scale.NONE) == pytest.approx(list(trainer._logs["advantages"]), abs=1e-6)


def test_kto_is_theirs(trl: Any, folder: Path, tmp_path: Path) -> None:
    """Against TRL's KTO without an estimate of the divergence, the reference being the model before it was moved."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    engine = engine_of(folder)
    plain = [datum(PROMPTS[prompt], tokens) for prompt, tokens, _ in ROWS]
    rows = [
        datum(PROMPTS[prompt], tokens, advantage=advantage, behaviour=tuple(logprobs))
        for (prompt, tokens, advantage), logprobs in zip(ROWS, engine.logprobs(plain), strict=True)
    ]
    with torch.no_grad():
        for one in engine._trained.values():
            one.mul_(1.02)
    told = engine.forward_backward(rows, LossSettings(Loss.KTO, beta=0.3))

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    trainer = trl.KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32),
        processing_class=tokenizer,
        args=trl.KTOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            beta=0.3,
            loss_type="apo_zero_unpaired",
            per_device_train_batch_size=4,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": "def ", "completion": "add", "label": bool(at % 2)} for at in range(4)]),
    )
    trainer.model.load_state_dict(engine._model.state_dict())
    trainer.model.train()
    everything = [[*PROMPTS[prompt], *tokens] for prompt, tokens, _ in ROWS]
    inputs = {
        "input_ids": padded(everything, 0),
        "attention_mask": padded([[1] * len(one) for one in everything], 0),
        "completion_mask": padded([[0] * len(PROMPTS[prompt]) + [1] * len(tokens) for prompt, tokens, _ in ROWS], 0),
        "label": torch.tensor([advantage > 0 for _, _, advantage in ROWS]),
    }
    loss = trainer._compute_loss(trainer.model, inputs, return_outputs=False)
    loss.backward()
    assert told["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert_same_gradients(gradients(engine._model), gradients(trainer.model))
