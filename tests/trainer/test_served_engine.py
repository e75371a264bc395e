"""Samples drawn by a server: what they are, and that a server which does not serve what it was given stops the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_generator.vllm_client import VllmClient
from coderl_trainer.engine import Engine, Loss, LossSettings, StepSettings
from coderl_trainer.errors import EngineFailed, EngineRefused, RunError
from coderl_trainer.served_engine import ServedEngine, ServedOptions
from coderl_trainer.types import Datum, SamplingParameters, StopReason

from .tiny_llama import of_sample
from .toy_engine import NEWLINE, ToyEngine, toy_text, toy_weights
from .vllm_double import Serves, VllmDouble, vllm_double

PROMPTS = ((1, 2, 3), (4, 5), (6,))
PARAMETERS = SamplingParameters(max_tokens=12)
PPO = LossSettings(Loss.PPO)
Clients = Callable[..., VllmClient]


@pytest.fixture
def server() -> Iterator[VllmDouble]:
    with vllm_double(toy_weights, toy_text) as double:
        yield double


@pytest.fixture
def options(tmp_path: Path) -> ServedOptions:
    return ServedOptions("20261126T100000Z-toy", tmp_path / "adapters", parallel=4)


@pytest.fixture
def client_of() -> Iterator[Clients]:
    with contextlib.ExitStack() as opened:
        yield lambda server, timeout_s=60.0: opened.enter_context(
            contextlib.closing(VllmClient(server.address, timeout_s=timeout_s, pause_s=0.0))
        )


@pytest.fixture
def toy() -> ToyEngine:
    """What `engine` learns with."""
    return ToyEngine()


@pytest.fixture
def engine(toy: ToyEngine, server: VllmDouble, client_of: Clients, options: ServedOptions) -> ServedEngine:
    return ServedEngine(toy, client_of(server), options)


def moved(engine: Engine, by: float = 0.5) -> int:
    engine.optim_step(StepSettings(by))
    return engine.publish()


def rows_of(engine: Engine, parameters: SamplingParameters = PARAMETERS) -> list[Datum]:
    groups = engine.sample(PROMPTS, 4, parameters)
    return [of_sample(prompt, one, 1.0) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]


# -- samples -------------------------------------------------------------------------------------------------------------------


def test_it_is_an_engine(engine: ServedEngine) -> None:
    assert isinstance(engine, Engine)


def test_samples_are_of_the_published_version_and_have_its_log_probs(engine: ServedEngine, server: VllmDouble) -> None:
    for version in (0, 1, 2):
        if version:
            assert moved(engine) == version
        rows = rows_of(engine)
        assert {one.policy_version for group in engine.sample(PROMPTS, 2, PARAMETERS) for one in group} == {version}
        told = [[value for value, counts in zip(row.behaviour_logprobs, row.mask, strict=True) if counts] for row in rows]
        for ours, theirs in zip(engine.logprobs(rows), told, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
    names = list(dict.fromkeys(body["model"] for body in server.asked("/v1/completions")))
    assert names[0] == "served"
    assert [name.rpartition("-")[0] for name in names[1:]] == [f"coderl-20261126T100000Z-toy@v{version}" for version in (1, 2)]


def test_samples_differ_from_one_another_and_come_again_with_a_seed(engine: ServedEngine) -> None:
    seeded = replace(PARAMETERS, seed=5)
    groups = engine.sample(PROMPTS, 4, seeded)
    assert groups == engine.sample(PROMPTS, 4, seeded)
    assert len({one.tokens for group in groups for one in group}) > 8
    assert engine.sample(PROMPTS, 4, PARAMETERS) != engine.sample(PROMPTS, 4, PARAMETERS)


@pytest.mark.parametrize("parameters", [replace(PARAMETERS, one_line=True), replace(PARAMETERS, stop=("ab", "\n"))])
def test_samples_end_where_the_sampler_of_the_engine_ends_them(
    engine: ServedEngine, server: VllmDouble, parameters: SamplingParameters
) -> None:
    """Among them lines that begin with breaks: the server ends there, the sample does not."""
    groups = engine.sample(PROMPTS, 40, parameters)
    samples = [one for group in groups for one in group]
    for one in samples:
        done = [at for at in range(1, len(one.tokens) + 1) if _ended(engine, one.tokens[:at], parameters)]
        assert done == ([len(one.tokens)] if one.stop_reason is StopReason.STOP else [])
        assert one.stop_reason is StopReason.STOP or len(one.tokens) == parameters.max_tokens
    assert any(one.tokens[0] == NEWLINE and len(one.tokens) > 1 for one in samples) is parameters.one_line
    rows = [of_sample(prompt, one, 1.0) for prompt, group in zip(PROMPTS, groups, strict=True) for one in group]
    for ours, one in zip(engine.logprobs(rows), samples, strict=True):
        assert ours == pytest.approx(one.logprobs, abs=1e-5)


def _ended(engine: Engine, tokens: tuple[int, ...], parameters: SamplingParameters) -> bool:
    return tokens[-1] in engine.ends or parameters.complete(engine.decode(tokens))


def test_other_temperatures_are_refused_because_their_log_probs_are_not_told(engine: ServedEngine) -> None:
    greedy = engine.sample(PROMPTS, 3, replace(PARAMETERS, temperature=0.0))
    assert [len(group) for group in greedy] == [3, 3, 3]
    assert all(len(set(group)) == 1 for group in greedy)
    for other in (replace(PARAMETERS, temperature=0.7), replace(PARAMETERS, top_p=0.9)):
        with pytest.raises(EngineRefused, match="before temperature and top-p"):
            engine.sample(PROMPTS, 1, other)


# -- adapters ------------------------------------------------------------------------------------------------------------------


def test_the_version_before_the_last_is_taken_off_and_all_are_at_the_end(
    engine: ServedEngine, server: VllmDouble, options: ServedOptions
) -> None:
    for _ in range(4):
        moved(engine)
    assert [name.partition("@")[2][:2] for name in server.adapters] == ["v3", "v4"]
    assert len(list(options.folder.iterdir())) == 2
    engine.close()
    assert not server.adapters
    assert not list(options.folder.iterdir())


def test_equal_weights_have_one_name_and_are_loaded_again_where_they_are_gone(engine: ServedEngine, server: VllmDouble) -> None:
    moved(engine)
    name = engine.model_name
    server.adapters.clear()
    rows = rows_of(engine)
    assert engine.model_name == name
    assert [body["lora_name"] for body in server.asked("/v1/load_lora_adapter")] == [name, name]
    assert engine.forward_backward(rows, PPO)["rollouts/logprob_gap_max"] < 1e-5


@pytest.mark.parametrize(("by", "said"), [(0.02, "still answers as the untrained model"), (1.0, "serves other weights")])
def test_a_server_that_serves_the_base_model_under_the_adapters_name_is_found(
    engine: ServedEngine, server: VllmDouble, by: float, said: str
) -> None:
    """By a step that stays within the tolerance, and by one that does not."""
    server.serves = Serves.BASE
    with pytest.raises(EngineRefused, match=said) as found:
        moved(engine, by)
    assert "--enable-lora --max-lora-rank 16 and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in str(found.value)


def test_a_server_that_goes_on_with_an_old_adapter_is_found(engine: ServedEngine, server: VllmDouble) -> None:
    server.serves = Serves.FIRST
    moved(engine, 0.1)
    with pytest.raises(EngineRefused, match="still answers as the version before"):
        moved(engine, 0.01)


def test_a_server_that_forgot_the_adapter_and_then_serves_the_base_is_found(engine: ServedEngine, server: VllmDouble) -> None:
    moved(engine)
    server.adapters.clear()
    server.serves = Serves.BASE
    with pytest.raises(EngineRefused, match="serves other weights"):
        engine.sample(PROMPTS, 1, PARAMETERS)


def test_a_server_that_changes_its_weights_after_the_probe_is_found_before_anything_is_learned(
    engine: ServedEngine, toy: ToyEngine, server: VllmDouble
) -> None:
    moved(engine)
    server.serves = Serves.BASE
    rows = rows_of(engine)
    with pytest.raises(EngineRefused, match="does not sample from"):
        engine.forward_backward(rows, PPO)
    assert not toy.learned


def test_another_model_is_found_at_the_start(client_of: Clients, options: ServedOptions) -> None:
    with (
        vllm_double(lambda folder: toy_weights(folder, seed=7), toy_text) as other,
        pytest.raises(EngineRefused, match="under its model served differ from the engine's by"),
    ):
        ServedEngine(ToyEngine(), client_of(other), options)


# -- failures ------------------------------------------------------------------------------------------------------------------


def test_a_server_that_takes_no_adapters_is_a_sentence_with_the_options(engine: ServedEngine, server: VllmDouble) -> None:
    server.takes_adapters = False
    with pytest.raises(EngineRefused, match="--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        moved(engine)


def test_a_failure_is_tried_again_and_many_are_the_end(engine: ServedEngine, server: VllmDouble) -> None:
    server.failures = 2
    assert engine.sample(PROMPTS[:1], 1, PARAMETERS)
    server.failures = 1000
    with pytest.raises(EngineFailed, match=r"the engine is dead"):
        engine.sample(PROMPTS[:1], 1, PARAMETERS)


def test_a_server_that_hangs_is_waited_for_by_name(server: VllmDouble, client_of: Clients, options: ServedOptions) -> None:
    engine = ServedEngine(ToyEngine(), client_of(server, timeout_s=0.5), options)
    server.hangs = True
    with pytest.raises(EngineFailed, match=r"drawing samples: waited 0\.5 s for 4 samples of served"):
        engine.sample(PROMPTS, 4, PARAMETERS)


def test_a_server_that_is_gone_is_a_sentence(client_of: Clients, options: ServedOptions) -> None:
    with vllm_double(toy_weights, toy_text) as server:
        client = client_of(server)
    with pytest.raises(EngineFailed, match="is it running"):
        ServedEngine(ToyEngine(), client, options)


def test_a_server_without_token_ids_is_refused(engine: ServedEngine, server: VllmDouble) -> None:
    server.gives_ids = False
    with pytest.raises(EngineRefused, match="no token ids"):
        engine.sample(PROMPTS, 1, PARAMETERS)


def test_an_adapter_that_cannot_be_taken_off_is_a_warning(
    engine: ServedEngine, server: VllmDouble, caplog: pytest.LogCaptureFixture
) -> None:
    moved(engine)
    server.adapters.clear()
    with caplog.at_level(logging.WARNING):
        engine.close()
    assert "stays on the model server" in caplog.text


def test_a_server_that_hangs_at_the_end_is_waited_for_once_and_shortly(
    server: VllmDouble, client_of: Clients, options: ServedOptions, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ServedEngine(ToyEngine(), client_of(server), replace(options, unload_s=0.2))
    moved(engine)
    moved(engine)
    assert len(server.adapters) == 2
    server.hangs = True
    with caplog.at_level(logging.WARNING):
        engine.close()
    assert len(server.asked("/v1/unload_lora_adapter")) == 1
    assert "waited 0.2 s for the unloading of" in caplog.text
    assert caplog.text.count("stays on the model server") == 2


def test_what_a_killed_run_left_is_taken_off_and_nothing_else(
    server: VllmDouble, client_of: Clients, options: ServedOptions
) -> None:
    killed = ServedEngine(ToyEngine(), client_of(server), options)
    moved(killed)
    (left,) = server.adapters
    other = ServedEngine(
        ToyEngine(), client_of(server), replace(options, run=f"{options.run}-2", folder=options.folder.with_name("other"))
    )
    moved(other)
    (others,) = server.adapters.keys() - {left}
    ServedEngine(ToyEngine(), client_of(server), options)
    assert list(server.adapters) == [others]
    assert not options.folder.exists()


def test_a_disk_that_takes_no_adapter_is_a_sentence(engine: ServedEngine, options: ServedOptions) -> None:
    options.folder.write_text("in the way", encoding="utf-8")
    with pytest.raises(RunError, match="adapters cannot be written: File exists"):
        moved(engine)


# -- two programs, one policy --------------------------------------------------------------------------------------------------


def test_the_distance_of_the_two_is_told_and_weighed(engine: ServedEngine, toy: ToyEngine, server: VllmDouble) -> None:
    server.noise_nats = 0.05
    rows = rows_of(engine)
    told = engine.forward_backward(rows, PPO)
    assert told["rollouts/logprob_gap_mean"] == pytest.approx(0.05, abs=1e-3)
    assert told["rollouts/logprob_gap_max"] == pytest.approx(0.05, abs=1e-3)
    assert told["rollouts/weight_truncated"] == 0
    for row, own in zip(toy.learned[0], engine.logprobs(rows), strict=True):
        counted = [value for value, counts in zip(row.behaviour_logprobs, row.mask, strict=True) if counts]
        assert counted == pytest.approx(own, abs=1e-6)
        assert {round(value, 3) for value in row.advantages if value} <= {round(2.718281828**one, 3) for one in (0.05, -0.05)}


def test_the_engines_log_probs_are_those_of_the_weights_that_were_sampled(engine: ServedEngine, toy: ToyEngine) -> None:
    rows = rows_of(engine)
    before = engine.logprobs(rows)
    engine.forward_backward(rows, PPO)
    engine.optim_step(StepSettings(0.5))
    engine.forward_backward(rows, PPO)
    first, second = toy.learned
    assert first == second
    assert engine.logprobs(rows) != before
    with pytest.raises(EngineRefused, match="before the first step"):
        engine.forward_backward([of_sample((1,), engine.sample(((1,),), 1, PARAMETERS)[0][0], 1.0)], PPO)


def test_a_saved_state_goes_on_with_the_same_weights_and_draws(
    engine: ServedEngine, server: VllmDouble, client_of: Clients, options: ServedOptions, tmp_path: Path
) -> None:
    moved(engine)
    engine.sample(PROMPTS, 2, PARAMETERS)
    engine.save_state(tmp_path / "state", {"cursor": "3"})
    expected = engine.sample(PROMPTS, 2, PARAMETERS)
    again = ServedEngine(ToyEngine(), client_of(server), options)
    assert again.load_state(tmp_path / "state") == {"cursor": "3"}
    assert again.sample(PROMPTS, 2, PARAMETERS) == expected
    assert again.model_name == engine.model_name
    ToyEngine().save_state(tmp_path / "other", {})
    with pytest.raises(EngineRefused, match="not written by a run whose samples a server draws"):
        again.load_state(tmp_path / "other")
