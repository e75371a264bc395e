from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.engine import Loss, LossSettings, Normalisation, StepSettings
from coderl_trainer.errors import EngineRefused
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.types import Datum, SamplingParameters

from .engine_contract import PROMPTS, STEP, EngineContract, rows
from .tiny_llama import datum, make_tiny_llama, need_torch, of_sample

torch = need_torch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=[0, 4], ids=["full", "lora"])
def options(folder: Path, request: pytest.FixtureRequest) -> LocalOptions:
    return LocalOptions(model=folder, lora_rank=request.param, threads=1)


@pytest.fixture
def engine(options: LocalOptions) -> LocalEngine:
    return LocalEngine(options)


class TestContract(EngineContract):
    """The battery, with all weights trained and with an adapter."""


def moved(engine: LocalEngine) -> LocalEngine:
    """A step away from the untrained model; an adapter's product is 0 before its first step."""
    engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
    engine.optim_step(STEP)
    return engine


def gradients(engine: LocalEngine) -> dict[str, Any]:
    return {name: one.grad.clone() for name, one in engine._trained.items()}


def assert_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert max(float(one.abs().max()) for one in theirs.values()) > 1e-4
    for name, one in theirs.items():
        torch.testing.assert_close(ours[name], one, rtol=1e-4, atol=1e-6)


def test_packed_rows_have_the_logprobs_of_rows_one_by_one(engine: LocalEngine) -> None:
    batch = [*rows(), datum((5, 6, 7), (17, 18, 19, 20), mask=(1.0, 0.0, 1.0, 1.0)), datum((5,), (6, 7))]
    together = engine.logprobs(batch)
    model = moved(engine)._model
    together = engine.logprobs(batch)
    for row, values in zip(batch, together, strict=True):
        with torch.inference_mode():
            chances = torch.log_softmax(model(torch.tensor([row.input_tokens])).logits[0], -1)
        alone = chances.gather(-1, torch.tensor(row.target_tokens)[:, None])[:, 0]
        assert values == pytest.approx(alone[torch.tensor(row.mask) > 0].tolist(), abs=1e-5)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_small_packs_add_up_to_one(folder: Path, loss: Loss, normalisation: Normalisation) -> None:
    settings = LossSettings(loss, normalisation, constant_tokens=4, kl=0.1, entropy=0.01)
    found = []
    for most in (2048, 5):
        engine = moved(LocalEngine(LocalOptions(model=folder, lora_rank=4, threads=1, max_positions=most)))
        told = engine.forward_backward(rows(), settings)
        found.append((told, gradients(engine)))
    (whole, one), (parts, other) = found
    assert dict(parts) == pytest.approx(dict(whole), rel=1e-4, abs=1e-6)
    assert_close(other, one)


def test_a_row_without_a_counted_token_votes_only_by_being_there(engine: LocalEngine) -> None:
    """A truncated sample that is masked: it adds no gradient, but the mean over rows still counts it."""
    silent = datum((5, 6, 7), (11, 12), mask=(0.0, 0.0))
    by_tokens = LossSettings(Loss.CROSS_ENTROPY)
    alone = moved(engine).forward_backward(rows(), by_tokens)
    assert engine.forward_backward([*rows(), silent], by_tokens)["loss"] == pytest.approx(alone["loss"])
    by_rows = LossSettings(Loss.CROSS_ENTROPY, Normalisation.SEQUENCES)
    alone = engine.forward_backward(rows(), by_rows)
    assert engine.forward_backward([*rows(), silent], by_rows)["loss"] == pytest.approx(alone["loss"] * 3 / 4)


def test_nothing_to_learn_from_is_a_step_that_changes_nothing(engine: LocalEngine) -> None:
    before = engine.logprobs(rows())
    told = engine.forward_backward([], LossSettings(Loss.PPO))
    assert told["loss"] == told["tokens"] == 0
    stepped = engine.optim_step(replace(STEP, weight_decay=0.1))
    assert stepped["grad_norm"] == 0
    assert engine.logprobs(rows()) == before


def test_a_weight_is_as_many_copies_of_the_row(engine: LocalEngine) -> None:
    moved(engine)
    settings = LossSettings(Loss.PPO, Normalisation.CONSTANT, constant_tokens=1)
    first = rows()[0]
    heavy = engine.forward_backward([replace(first, weight=2.0)], settings)["loss"]
    assert heavy == pytest.approx(2 * engine.forward_backward([first], settings)["loss"])


def test_fresh_samples_have_a_ratio_of_one(engine: LocalEngine) -> None:
    moved(engine).publish()
    groups = engine.sample(PROMPTS, 4, SamplingParameters(max_tokens=8, seed=2))
    batch = [of_sample(prompt, sample, 1.0) for prompt, group in zip(PROMPTS, groups, strict=True) for sample in group]
    told = engine.forward_backward(batch, LossSettings(Loss.PPO))
    assert told["mean_logratio"] == pytest.approx(0, abs=1e-5)
    assert told["clip_share"] == 0
    assert told["loss"] == pytest.approx(-1, abs=1e-5)


def test_the_divergence_is_that_from_the_untrained_model(engine: LocalEngine) -> None:
    reference = engine.logprobs(rows())
    settings = LossSettings(Loss.PPO, kl=0.1)
    assert engine.forward_backward(rows(), settings)["kl"] == pytest.approx(0, abs=1e-6)
    engine.optim_step(StepSettings(learning_rate=0.0))
    moved(engine)
    now = engine.logprobs(rows())
    each = [
        math.exp(old - new) - (old - new) - 1
        for olds, news in zip(reference, now, strict=True)
        for old, new in zip(olds, news, strict=True)
    ]
    told = engine.forward_backward(rows(), settings)["kl"]
    assert told > 1e-4
    assert told == pytest.approx(sum(each) / len(each), rel=1e-3)
    assert engine.logprobs(rows()) == now, "looking at the reference changed the trained weights"


def test_entropy_is_that_of_the_whole_distribution_where_it_is_rewarded(engine: LocalEngine) -> None:
    told = moved(engine).forward_backward(rows(), LossSettings(Loss.PPO, entropy=0.01))["entropy"]
    total = 0.0
    for row in rows():
        with torch.inference_mode():
            chances = torch.log_softmax(engine._model(torch.tensor([row.input_tokens])).logits[0], -1)
        total += float((-(chances.exp() * chances).sum(-1) * torch.tensor(row.mask)).sum())
    assert told == pytest.approx(total / 7, rel=1e-4)


def test_a_gradient_that_is_not_finite_is_not_applied(engine: LocalEngine) -> None:
    before = engine.logprobs(rows())
    wild = replace(rows()[0], advantages=(0.0, 0.0, 1e38, 1e38, 1e38), weight=1e38)
    engine.forward_backward([wild], LossSettings(Loss.PPO))
    told = engine.optim_step(STEP)
    assert told["skipped"] == 1
    assert not math.isfinite(told["grad_norm"])
    assert engine.logprobs(rows()) == before
    engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
    assert engine.optim_step(STEP)["skipped"] == 0
    assert engine.logprobs(rows()) != before


def test_clipping_keeps_the_direction(engine: LocalEngine) -> None:
    settings = LossSettings(Loss.CROSS_ENTROPY)
    engine.forward_backward(rows(), settings)
    free = engine.optim_step(StepSettings(learning_rate=0.0, max_grad_norm=None))["grad_norm"]
    engine.forward_backward(rows(), settings)
    assert engine.optim_step(StepSettings(learning_rate=0.0, max_grad_norm=free / 2))["grad_norm"] == pytest.approx(free)


def test_checkpointing_has_the_same_gradient(folder: Path) -> None:
    found = []
    for checkpointing in (False, True):
        options = LocalOptions(model=folder, lora_rank=4, threads=1, checkpointing=checkpointing)
        engine = moved(LocalEngine(options))
        engine.forward_backward(rows(), LossSettings(Loss.PPO))
        found.append(gradients(engine))
    assert_close(found[1], found[0])


def test_an_adapter_starts_as_the_model_and_is_merged_for_sampling(folder: Path) -> None:
    full = LocalEngine(LocalOptions(model=folder, lora_rank=0, threads=1))
    adapted = LocalEngine(LocalOptions(model=folder, lora_rank=4, threads=1))
    seeded = SamplingParameters(max_tokens=8, seed=1)
    assert adapted.sample(PROMPTS, 2, seeded) == full.sample(PROMPTS, 2, seeded)
    assert adapted.trained_parameters < full.trained_parameters
    moved(adapted).publish()
    groups = adapted.sample(PROMPTS, 2, seeded)
    pairs = [(prompt, sample) for prompt, group in zip(PROMPTS, groups, strict=True) for sample in group]
    told = adapted.logprobs([of_sample(prompt, sample, 1.0) for prompt, sample in pairs])
    for (_, sample), values in zip(pairs, told, strict=True):
        assert values == pytest.approx(sample.logprobs, abs=1e-5)


def test_a_loaded_state_forgets_what_was_gathered(engine: LocalEngine, tmp_path: Path) -> None:
    """Also before the first step, when there is no optimizer yet."""
    engine.save_state(tmp_path, {})
    moved(engine)
    engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
    engine.load_state(tmp_path)
    assert engine.optim_step(STEP)["grad_norm"] == 0
    fresh = LocalEngine(engine.options)
    assert moved(engine).logprobs(rows()) == moved(fresh).logprobs(rows())


RESUME = """
import sys
from pathlib import Path
from coderl_trainer.local_engine import LocalEngine, LocalOptions
sys.path.insert(0, sys.argv[4])
from tests.trainer.engine_contract import EngineContract
from coderl_trainer.engine import Loss, LossSettings
engine = LocalEngine(LocalOptions(model=Path(sys.argv[1]), lora_rank=int(sys.argv[2]), threads=1, seed=99))
assert engine.load_state(Path(sys.argv[3])) == {"cursor": "1"}
print(repr(EngineContract._go_on(engine, LossSettings(Loss.CROSS_ENTROPY))))
"""


def test_another_process_goes_on_bit_for_bit(engine: LocalEngine, tmp_path: Path) -> None:
    moved(engine).publish()
    engine.sample(PROMPTS, 1, SamplingParameters(max_tokens=3))  # moves the random state
    engine.save_state(tmp_path, {"cursor": "1"})
    arguments = [str(engine.options.model), str(engine.options.lora_rank), str(tmp_path), str(Path(__file__).parents[2])]
    told = subprocess.run([sys.executable, "-c", RESUME, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == repr(EngineContract._go_on(engine, LossSettings(Loss.CROSS_ENTROPY)))


def damaged(folder: Path, how: str) -> None:
    manifest, state = folder / "engine.json", folder / "state.pt"
    if how == "no manifest":
        manifest.unlink()
    elif how == "manifest is no JSON":
        manifest.write_text("{")
    elif how == "manifest is a list":
        manifest.write_text("[]")
    elif how == "another engine":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "engine_id": "local:other:full:float32"}))
    elif how == "no loop state":
        manifest.write_text(json.dumps({"engine_id": json.loads(manifest.read_text())["engine_id"]}))
    elif how == "state is cut off":
        state.write_bytes(state.read_bytes()[:1000])
    elif how == "state is text":
        state.write_text("weights")
    else:
        torch.save({"weights": {}}, state)


@pytest.mark.parametrize(
    "how",
    [
        "no manifest",
        "manifest is no JSON",
        "manifest is a list",
        "another engine",
        "no loop state",
        "state is cut off",
        "state is text",
        "state is of something else",
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(engine: LocalEngine, tmp_path: Path, how: str) -> None:
    engine.save_state(tmp_path, {})
    damaged(tmp_path, how)
    moved(engine)
    before = engine.logprobs(rows())
    with pytest.raises(EngineRefused):
        engine.load_state(tmp_path)
    assert engine.logprobs(rows()) == before


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_what_is_saved_as_a_model_is_read_by_others(engine: LocalEngine, tmp_path: Path) -> None:
    import peft
    import transformers

    moved(engine).save_model(tmp_path)
    if engine.options.lora_rank:
        base = transformers.AutoModelForCausalLM.from_pretrained(engine.options.model)
        model = peft.PeftModel.from_pretrained(base, str(tmp_path))
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path))
        assert transformers.AutoTokenizer.from_pretrained(str(tmp_path)).decode([5]) == engine.tokenizer.decode([5])
    row = rows()[0]
    with torch.inference_mode():
        chances = torch.log_softmax(model(torch.tensor([row.input_tokens])).logits[0], -1)
    values = chances.gather(-1, torch.tensor(row.target_tokens)[:, None])[:, 0][torch.tensor(row.mask) > 0]
    assert engine.logprobs([row])[0] == pytest.approx(values.tolist(), abs=1e-5)


@pytest.mark.parametrize("what", ["nothing there", "no model", "a damaged tokenizer", "damaged weights"])
def test_a_model_that_cannot_be_loaded_is_refused(engine: LocalEngine, tmp_path: Path, what: str) -> None:
    if what == "no model":
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    elif what != "nothing there":
        shutil.copytree(engine.options.model, tmp_path, dirs_exist_ok=True)
        name, damaged = ("tokenizer.json", '{"version": "1.0"}') if "tokenizer" in what else ("model.safetensors", "weights")
        (tmp_path / name).write_text(damaged)
    with pytest.raises(EngineRefused, match="cannot be loaded"):
        LocalEngine(LocalOptions(model=tmp_path))


def test_a_long_row_is_learned_from_alone(engine: LocalEngine) -> None:
    row: Datum = datum(tuple(range(5, 25)), tuple(range(30, 60)))
    short = LocalEngine(replace(engine.options, max_positions=4))
    assert short.logprobs([row])[0] == pytest.approx(engine.logprobs([row])[0], abs=1e-5)
