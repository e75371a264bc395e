"""The seam between the algorithm and whatever moves the weights.

Our own loop, borrowed engines: the loop is written against these verbs and an engine carries them out, on one CPU, on many GPUs
or on a hosted service. The shape is that of the Tinker API (thinking-machines-lab/tinker-cookbook, `recipes/rl_loop.py`), which
SkyRL and open-rl serve too; the engine knows no rewards, no groups and no log of suggestions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from .types import Datum, Sample, SamplingParameters


class Loss(StrEnum):
    """Losses an engine may offer. With ρ = exp(log π_θ − log π_behaviour) per token and A its advantage:"""

    CROSS_ENTROPY = "cross_entropy"
    """−log π_θ; supervised warm-up."""
    IMPORTANCE_SAMPLING = "importance_sampling"
    """−ρ·A."""
    PPO = "ppo"
    """−min(ρ·A, clip(ρ, 1 − ε_low, 1 + ε_high)·A): Schulman et al. 2017, eq. 7, with the two bounds of DAPO (2025)."""
    DRO = "dro"
    """−[A·log π_θ − (β/2)(log π_θ − log π_behaviour)²]: learns from single logged suggestions, which have no group."""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Which loss with which constants; those a loss does not use are ignored by it."""

    loss: Loss
    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    beta: float = 0.05
    """Strength of the quadratic pull of `DRO` towards the behaviour policy."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """One step of AdamW."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    """Global L2 norm to clip to; None = no clipping."""


@runtime_checkable
class Engine(Protocol):
    """Weights that can be sampled, trained, saved and served.

    Contract: gradients add up over `forward_backward` calls until `optim_step`, which applies and clears them; sampling never
    changes weights; errors are `coderl_trainer.errors`, never a library's own. An engine that does not know a loss raises
    `EngineRefused` instead of taking another.
    """

    @property
    def engine_id(self) -> str:
        """Base model, adapter shape and precision as one stable name, for the manifest of a run."""
        ...

    @property
    def losses(self) -> frozenset[Loss]:
        """The losses this engine can compute."""
        ...

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """Draw `samples` completions for each of P token prompts: a list of P groups of G samples, from the newest weights."""
        ...

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """Add the gradient of Σ_D weight · Σ_T mask · loss / Σ_D Σ_T mask.

        Returns metrics, at least `loss` (nats per counted token), `tokens` (those counted), `mean_logratio`, `clip_share`.
        """
        ...

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        """Apply the gathered gradient and clear it. Returns at least `grad_norm` (before clipping)."""
        ...

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """Write everything a resumed run needs to go on bit for bit: weights, optimizer, random state, `loop_state`.

        `loop_state` is the loop's own (data cursor, buffered samples), as texts. The manifest is written last.
        """
        ...

    def load_state(self, folder: Path) -> Mapping[str, str]:
        """Restore what `save_state` wrote; returns the loop's part. Raises `EngineRefused` for a foreign folder."""
        ...

    def publish(self) -> int:
        """Make the present weights the ones that `sample` and the servers use; returns their version, counting up."""
        ...
