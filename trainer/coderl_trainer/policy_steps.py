"""The gradient steps of one rollout step, and what moves between them: clip, coefficient of the entropy, learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Engine, StepSettings
from .recipe import GrpoRecipe
from .schedules import learning_rate
from .types import Datum


class PolicySteps:
    """Learns from rows of samples with one engine. Its state is two texts, which a checkpoint keeps."""

    def __init__(self, engine: Engine, grpo: GrpoRecipe) -> None:
        self._engine, self._grpo = engine, grpo
        self._clip, self._entropy = grpo.clip, grpo.entropy_schedule

    def learn(self, data: Sequence[Datum], step: int) -> dict[str, float | None]:
        """`grpo.updates` gradient steps on the rows, then publish. `step`: of this recipe's GRPO, from 1. Returns the figures
        of the last one under the names of `metric_names`."""
        grpo = self._grpo
        rate = learning_rate(grpo.learning_rate, step, grpo.steps, grpo.warmup_steps, grpo.schedule)
        for _ in range(grpo.updates):
            settings = grpo.loss_settings(self._clip, self._entropy)
            learned = self._engine.forward_backward(data, settings)
            stepped = self._engine.optim_step(StepSettings(rate))
            self._clip = None if self._clip is None else self._clip.after(learned["clip_share"])
            self._entropy = self._entropy.after(learned["entropy"])
        self._engine.publish()
        return {
            "loss": learned["loss"],
            "entropy": learned["entropy"],
            "kl": learned.get("kl"),
            "clip_ratio/region_mean": learned["clip_share"],
            "epsilon_high": settings.epsilon_high,
            "entropy_coefficient": settings.entropy,
            "grad_norm": stepped["grad_norm"],
            "learning_rate": rate,
            **{name: value for name, value in learned.items() if name.startswith("rollouts/")},
        }

    def state(self) -> tuple[str, str]:
        """Of the clip and of the entropy's coefficient."""
        return "" if self._clip is None else self._clip.state, self._entropy.state

    def resume(self, clip: str, entropy: str) -> None:
        """Go on from what `state` gave."""
        if self._clip is not None:
            self._clip = self._clip.resumed(clip)
        self._entropy = self._entropy.resumed(entropy)
