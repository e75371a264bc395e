"""The engine `tinker` through the real SDK, against a service of our own on the loopback. The hosted service was not tried."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coderl_generator.backend import line_is_complete
from coderl_trainer.engine import MANIFEST, Loss, LossSettings, Normalisation, StepSettings
from coderl_trainer.errors import EngineFailed, EngineRefused, RunError
from coderl_trainer.tinker_losses import NATIVE
from coderl_trainer.types import SamplingParameters, StopReason

from .engine_contract import PROMPTS, STEP, EngineContract, rows
from .tiny_llama import make_tiny_llama, need_torch, of_sample

torch = need_torch()
pytest.importorskip("peft", reason="the extra `train` is not installed")
pytest.importorskip("tinker", reason="the extra `tinker` is not installed")

from coderl_trainer.tinker_engine import TinkerEngine, TinkerOptions  # noqa: E402
from coderl_trainer.tinker_service import Patience, sdk  # noqa: E402

from .tinker_server import KEY, TinkerService, serving  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft's own
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # the SDK's: it leaves its first connection to the collector
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinkerService]:
    made = TinkerService(folder)
    with serving(made) as url:
        monkeypatch.setenv("TINKER_BASE_URL", url)
        monkeypatch.setenv("TINKER_API_KEY", KEY)
        monkeypatch.setenv("TINKER_TELEMETRY", "0")
        yield made


@pytest.fixture
def engine(folder: Path, service: TinkerService) -> Iterator[TinkerEngine]:
    made = TinkerEngine(TinkerOptions(str(folder), lora_rank=4, wait_s=60.0))
    yield made
    made.close()
    assert service.finished[-1] == "success"


class TestContract(EngineContract):
    """The battery."""


def moved(engine: TinkerEngine) -> TinkerEngine:
    engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
    engine.optim_step(STEP)
    return engine


def norm(engine: TinkerEngine, wanted: LossSettings) -> tuple[dict[str, float], float]:
    """(metrics, norm of the gradient) of a step that moves nothing."""
    told = dict(engine.forward_backward(rows(), wanted))
    return told, engine.optim_step(StepSettings(learning_rate=0.0, max_grad_norm=None))["grad_norm"]


def test_what_is_sampled_after_publishing_are_the_trained_weights(engine: TinkerEngine) -> None:
    untrained = engine.logprobs(rows())
    moved(engine).publish()
    groups = engine.sample(PROMPTS, 4, SamplingParameters(max_tokens=8, seed=2))
    data = [of_sample(prompt, one, 1.0) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]
    drawn = [one.logprobs for group in groups for one in group]
    for values, logprobs in zip(engine.logprobs(data), drawn, strict=True):
        assert values == pytest.approx(logprobs, abs=1e-4)
    assert engine.logprobs(rows()) != untrained
    told = engine.forward_backward(data, LossSettings(Loss.PPO))
    assert told["mean_logratio"] == pytest.approx(0, abs=1e-4)
    assert told["loss"] == pytest.approx(-1, abs=1e-4)
    assert len({one.tokens for one in groups[0]}) > 1, "the samples of a group are drawn one by one"


@pytest.mark.parametrize("loss", sorted(NATIVE))
def test_one_pass_and_two_have_the_same_gradient(engine: TinkerEngine, service: TinkerService, loss: Loss) -> None:
    """Two are taken where the divergence is asked for; its share here is too small to be seen."""
    moved(engine)
    wanted = LossSettings(loss, Normalisation.SEQUENCES)
    service.losses.clear()
    one, ours = norm(engine, wanted)
    assert set(service.losses) == {"ppo" if loss is Loss.PPO else "cross_entropy" if loss is Loss.CROSS_ENTROPY else "cispo"}
    service.losses.clear()
    two, theirs = norm(engine, replace(wanted, kl=1e-9))
    assert set(service.losses) == {"forward cross_entropy", "cross_entropy"}
    assert theirs == pytest.approx(ours, rel=1e-3)
    assert two.pop("kl") > 0
    assert two == pytest.approx(one, rel=1e-3, abs=1e-6)


def test_the_divergence_is_that_from_the_untrained_model(engine: TinkerEngine) -> None:
    reference = engine.logprobs(rows())
    wanted = LossSettings(Loss.PPO, kl=0.1)
    assert norm(engine, wanted)[0]["kl"] == pytest.approx(0, abs=1e-5)
    now = moved(engine).logprobs(rows())
    pairs = [(old, new) for olds, news in zip(reference, now, strict=True) for old, new in zip(olds, news, strict=True)]
    expected = sum(math.exp(old - new) - (old - new) - 1 for old, new in pairs) / len(pairs)
    assert expected > 1e-4
    assert norm(engine, wanted)[0]["kl"] == pytest.approx(expected, rel=1e-2)


def test_a_line_ends_where_our_reading_ends_it(engine: TinkerEngine) -> None:
    groups = engine.sample(PROMPTS, 8, SamplingParameters(max_tokens=24, one_line=True, seed=3))
    samples = [one for group in groups for one in group]
    cut = [one for one in samples if line_is_complete(engine.decode(one.tokens))]
    assert cut
    for one in cut:
        assert one.stop_reason is StopReason.STOP
        assert not line_is_complete(engine.decode(one.tokens[:-1]))
    assert all(len(one.tokens) == 24 for one in samples if one.stop_reason is StopReason.LENGTH)


def test_texts_go_there_and_back(engine: TinkerEngine) -> None:
    assert engine.decode(engine.encode("def add(a, b):\n    return a + b\n")) == "def add(a, b):\n    return a + b\n"
    assert engine.ends == (engine.tokenizer.eos_token_id,)


@pytest.mark.parametrize(
    "parameters", [SamplingParameters(4, temperature=0.7), SamplingParameters(4, top_p=0.9)], ids=["temperature", "top_p"]
)
def test_sampling_of_unknown_log_probs_is_refused(engine: TinkerEngine, parameters: SamplingParameters) -> None:
    with pytest.raises(EngineRefused, match="temperature 1 or 0"):
        engine.sample(PROMPTS, 2, parameters)


def test_rewarded_entropy_is_refused(engine: TinkerEngine) -> None:
    with pytest.raises(EngineRefused, match="entropy"):
        engine.forward_backward(rows(), LossSettings(Loss.PPO, entropy=0.01))


def test_nothing_to_learn_from_is_a_step_that_asks_nothing(engine: TinkerEngine, service: TinkerService) -> None:
    assert engine.forward_backward([], LossSettings(Loss.PPO))["loss"] == 0
    assert engine.optim_step(STEP)["grad_norm"] == 0
    assert engine.logprobs([]) == []
    assert service.losses == []


def test_a_norm_that_is_not_told_is_no_number(engine: TinkerEngine, service: TinkerService) -> None:
    service.norms = False
    assert math.isnan(norm(engine, LossSettings(Loss.PPO))[1])


def test_what_is_saved_as_a_model_is_read_by_peft(engine: TinkerEngine, tmp_path: Path, folder: Path) -> None:
    import peft
    import transformers

    moved(engine).save_model(tmp_path)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path))
    row = rows()[0]
    with torch.inference_mode():
        chances = torch.log_softmax(model(torch.tensor([row.input_tokens])).logits[0], -1)
    values = chances.gather(-1, torch.tensor(row.target_tokens)[:, None])[:, 0][torch.tensor(row.mask) > 0]
    assert engine.logprobs([row])[0] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_file_outside_the_folder_of_the_model_is_refused(
    engine: TinkerEngine, service: TinkerService, tmp_path: Path
) -> None:
    service.told_name = "../elsewhere"
    with pytest.raises(EngineRefused, match="outside"):
        engine.save_model(tmp_path / "model")
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_that_takes_no_weights_is_a_sentence(engine: TinkerEngine, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("in the way", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be written"):
        moved(engine).save_model(tmp_path / "model")


@pytest.mark.parametrize("how", ["no manifest", "another engine", "no path", "random", "gone"])
def test_a_damaged_state_is_refused_and_changes_nothing(engine: TinkerEngine, tmp_path: Path, how: str) -> None:
    engine.save_state(tmp_path, {})
    state = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    changes: dict[str, dict[str, Any]] = {
        "another engine": {"engine_id": "tinker:other:lora-r4"},
        "no path": {"path": None},
        "random": {"random": [3, [], None]},
        "gone": {"path": "tinker://gone/weights/state-000001"},
    }
    state |= changes.get(how, {})
    (tmp_path / MANIFEST).write_text("{" if how == "no manifest" else json.dumps(state), encoding="utf-8")
    before = moved(engine).logprobs(rows())
    with pytest.raises(EngineRefused):
        engine.load_state(tmp_path)
    assert engine.logprobs(rows()) == before


def test_another_engine_goes_on_where_the_first_stopped(engine: TinkerEngine, folder: Path, tmp_path: Path) -> None:
    moved(engine).publish()
    engine.save_state(tmp_path, {"cursor": "3"})
    free = SamplingParameters(max_tokens=6)
    expected = engine.sample(PROMPTS, 2, free), norm(engine, LossSettings(Loss.PPO))
    other = TinkerEngine(TinkerOptions(str(folder), lora_rank=4, seed=9, wait_s=60.0))
    assert other.load_state(tmp_path) == {"cursor": "3"}
    assert (other.sample(PROMPTS, 2, free), norm(other, LossSettings(Loss.PPO))) == expected
    assert other.publish() == 2
    other.close()


@pytest.mark.parametrize(
    ("changed", "key", "said"),
    [
        ({}, None, "TINKER_API_KEY"),
        ({}, "tml-of-another", "does not take the key in TINKER_API_KEY"),
        ({"lora_rank": 0}, KEY, "lora_rank"),
        ({"base_model": "absent/model"}, KEY, "an adapter of absent/model.*There is no base model absent/model"),
    ],
)
def test_what_cannot_be_opened_is_told_in_a_sentence(
    folder: Path,
    service: TinkerService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changed: dict[str, Any],
    key: str | None,
    said: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where the SDK looks for a stored key
    if key is None:
        monkeypatch.delenv("TINKER_API_KEY")
    else:
        monkeypatch.setenv("TINKER_API_KEY", key)
    with pytest.raises(EngineRefused, match=said):
        TinkerEngine(replace(TinkerOptions(str(folder), lora_rank=4, wait_s=60.0), **changed))
    assert "success" not in service.finished


def test_a_service_that_never_answers_is_named_with_what_was_waited_for(folder: Path, service: TinkerService) -> None:
    service.stuck.add("create_model")
    with pytest.raises(EngineFailed, match=r"has not answered after 0.5 s of waiting for an adapter of"):
        TinkerEngine(TinkerOptions(str(folder), lora_rank=4, wait_s=0.5))


def test_every_wait_ends() -> None:
    patience = Patience(sdk(), 0.05)
    with pytest.raises(EngineFailed, match=r"0.05 s of waiting for nothing"):
        patience.wait(Future(), "nothing")
    assert patience.within(lambda: 3, "three") == 3
    with pytest.raises(EngineFailed, match="failed at a socket: closed"):
        patience.within(lambda: _raise(OSError("closed")), "a socket")


def _raise(error: Exception) -> None:
    raise error
