"""What every engine must do, as a battery: a test module subclasses `EngineContract` and gives a fixture `engine`.

The engine is small, fresh for each test, and its tokens 5 to 20 are ordinary ones. What an engine adds to the contract is
tested beside it.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from coderl_trainer.engine import Engine, Loss, LossSettings, Normalisation, StepSettings
from coderl_trainer.errors import EngineRefused
from coderl_trainer.types import Datum, SamplingParameters, StopReason

from .tiny_llama import datum

PROMPTS = ((5, 6, 7), (8, 9))
STEP = StepSettings(learning_rate=1e-2)
METRICS = frozenset(("loss", "tokens", "mean_logratio", "clip_share", "entropy"))


def rows() -> list[Datum]:
    return [
        datum((5, 6, 7), (10, 11, 12), advantage=1.0, behaviour=(-2.0, -3.0, -4.0)),
        datum((5, 6, 7), (13, 14), advantage=-1.0, behaviour=(-2.0, -3.0)),
        datum((8, 9), (15, 16), advantage=0.5, behaviour=(-5.0, -1.0)),
    ]


class EngineContract:
    """The verbs, and what they promise each other."""

    def test_it_is_an_engine(self, engine: Engine) -> None:
        assert isinstance(engine, Engine)
        assert engine.engine_id
        assert Loss.CROSS_ENTROPY in engine.losses

    def test_samples_have_the_asked_shape(self, engine: Engine) -> None:
        groups = engine.sample(PROMPTS, 3, SamplingParameters(max_tokens=6, seed=1))
        assert [len(group) for group in groups] == [3, 3]
        for sample in (sample for group in groups for sample in group):
            assert 1 <= len(sample.tokens) <= 6
            assert all(value <= 0 for value in sample.logprobs)
            assert sample.policy_version == 0
            assert sample.stop_reason is StopReason.STOP or len(sample.tokens) == 6

    def test_a_seed_draws_the_same(self, engine: Engine) -> None:
        seeded = SamplingParameters(max_tokens=6, seed=1)
        assert engine.sample(PROMPTS, 2, seeded) == engine.sample(PROMPTS, 2, seeded)

    def test_every_loss_it_names_works(self, engine: Engine) -> None:
        for loss in sorted(engine.losses):
            told = engine.forward_backward(rows(), LossSettings(loss, epsilon_low=0.999, epsilon_high=1e3))
            assert told.keys() >= METRICS
            assert all(map(math.isfinite, told.values())), loss
            assert told["tokens"] == 7
            assert engine.optim_step(STEP)["grad_norm"] > 0, loss

    def test_a_loss_it_does_not_name_is_refused(self, engine: Engine) -> None:
        for loss in sorted(frozenset(Loss) - engine.losses):
            with pytest.raises(EngineRefused):
                engine.forward_backward(rows(), LossSettings(loss))

    def test_a_step_makes_the_wanted_tokens_likelier(self, engine: Engine) -> None:
        wanted = rows()[0]
        before = engine.forward_backward([wanted], LossSettings(Loss.CROSS_ENTROPY))["loss"]
        engine.optim_step(STEP)
        assert engine.forward_backward([wanted], LossSettings(Loss.CROSS_ENTROPY))["loss"] < before

    def test_gradients_add_up_until_the_step(self, engine: Engine) -> None:
        settings = LossSettings(Loss.CROSS_ENTROPY)
        engine.forward_backward(rows(), settings)
        once = engine.optim_step(StepSettings(learning_rate=0.0, max_grad_norm=None))["grad_norm"]
        engine.forward_backward(rows(), settings)
        engine.forward_backward(rows(), settings)
        twice = engine.optim_step(StepSettings(learning_rate=0.0, max_grad_norm=None))["grad_norm"]
        assert twice == pytest.approx(2 * once, rel=1e-4)

    def test_samples_change_when_weights_are_published_and_not_before(self, engine: Engine) -> None:
        seeded = SamplingParameters(max_tokens=6, seed=1)
        before = engine.sample(PROMPTS, 2, seeded)
        engine.forward_backward(rows(), LossSettings(Loss.CROSS_ENTROPY))
        engine.optim_step(StepSettings(learning_rate=0.1))
        assert engine.sample(PROMPTS, 2, seeded) == before
        version = engine.publish()
        after = engine.sample(PROMPTS, 2, seeded)
        assert version == 1
        assert {sample.policy_version for group in after for sample in group} == {version}
        assert [sample.logprobs for group in after for sample in group] != [
            sample.logprobs for group in before for sample in group
        ]
        assert engine.publish() == 2

    def test_a_saved_state_comes_back(self, engine: Engine, tmp_path: Path) -> None:
        settings = LossSettings(Loss.CROSS_ENTROPY, Normalisation.SEQUENCES)
        engine.forward_backward(rows(), settings)
        engine.optim_step(STEP)
        engine.publish()
        engine.save_state(tmp_path / "state", {"cursor": "17", "buffer": "[]"})
        first = self._go_on(engine, settings)
        assert engine.load_state(tmp_path / "state") == {"cursor": "17", "buffer": "[]"}
        assert self._go_on(engine, settings) == first

    @staticmethod
    def _go_on(engine: Engine, settings: LossSettings) -> list[object]:
        """Three steps with a free draw after each: weights, optimizer, random state and version all show in it."""
        seen: list[object] = []
        for _ in range(3):
            seen.append(dict(engine.forward_backward(rows(), settings)))
            seen.append(dict(engine.optim_step(STEP)))
            seen.append(engine.publish())
            seen.append(engine.sample(PROMPTS, 2, SamplingParameters(max_tokens=6)))
        return seen

    def test_a_foreign_folder_is_refused(self, engine: Engine, tmp_path: Path) -> None:
        with pytest.raises(EngineRefused):
            engine.load_state(tmp_path / "nothing")

    @pytest.mark.parametrize(("prompts", "samples"), [((), 1), (((),), 1), (((5,),), 0)])
    def test_nothing_to_sample_from_is_refused(
        self, engine: Engine, prompts: tuple[tuple[int, ...], ...], samples: int
    ) -> None:
        with pytest.raises(EngineRefused):
            engine.sample(prompts, samples, SamplingParameters(max_tokens=2))
