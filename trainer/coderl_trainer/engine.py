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
from typing import Any, Final, Protocol, runtime_checkable

from .types import Datum, Sample, SamplingParameters

MANIFEST: Final = "engine.json"
"""The file that `Engine.save_state` writes last: a folder without it holds no complete state."""


class EngineName(StrEnum):
    """The engines that a recipe can name."""

    LOCAL = "local"
    """A model in this process (`local_engine`)."""
    TINKER = "tinker"
    """A hosted service with the Tinker API (`tinker_engine`)."""
    TRL = "trl"
    """TRL's trainer instead of our loop (`trl_training`): GRPO alone, and no `Engine`."""


class Loss(StrEnum):
    """What an engine may minimise. ρ = exp(log π_θ − log π_behaviour) of a token, A its advantage; `coderl_trainer.losses` has
    the formulas with their sources."""

    CROSS_ENTROPY = "cross_entropy"
    """−log π_θ; supervised warm-up."""
    IMPORTANCE_SAMPLING = "importance_sampling"
    """−min(ρ, c)·A with a constant c: off-policy REINFORCE."""
    PPO = "ppo"
    """The clipped surrogate, token by token: GRPO, Dr. GRPO, DAPO."""
    GSPO = "gspo"
    """The same with one ratio per sequence."""
    CISPO = "cispo"
    """The ratio is clipped and not differentiated: every token keeps its gradient."""
    DRO = "dro"
    """Learns from single logged suggestions, which have no group."""
    KTO = "kto"
    """Learns from single suggestions that are called good or bad."""


class Normalisation(StrEnum):
    """What the sum of the token losses is divided by."""

    SEQUENCES = "sequences"
    """Each row by its own tokens, then by the rows (GRPO, GSPO): short and long answers weigh the same."""
    TOKENS = "tokens"
    """By all tokens that count (DAPO, CISPO): each token weighs the same."""
    CONSTANT = "constant"
    """By rows times a constant (Dr. GRPO): the length of an answer changes nothing."""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Which loss with which constants; those a loss does not use are ignored by it."""

    loss: Loss
    normalisation: Normalisation = Normalisation.TOKENS
    constant_tokens: int = 64
    """What `Normalisation.CONSTANT` takes for the length of a row: the token budget of the samples."""
    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    truncate_at: float = 3.0
    """c of `IMPORTANCE_SAMPLING`."""
    beta: float = 0.05
    """Strength of the pull of `DRO` and `KTO` towards the behaviour policy."""
    kl: float = 0.0
    """Coefficient of the divergence from the untrained model (k3)."""
    entropy: float = 0.0
    """Coefficient of the entropy, which is rewarded."""


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

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers has it."""
        ...

    @property
    def ends(self) -> tuple[int, ...]:
        """Token ids that end a sequence, the tokenizer's own first."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, control tokens spelled out."""
        ...

    def sample(self, prompts_P: Sequence[Sequence[int]], samples: int, parameters: SamplingParameters) -> list[list[Sample]]:
        """Draw `samples` completions for each of P token prompts: a list of P groups of G samples, from the newest weights."""
        ...

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        """Add the gradient of the loss of all rows, normalised over this call as `settings` say.

        Returns metrics, at least `loss`, `tokens` (those counted), `mean_logratio`, `clip_share` (of them), `entropy` (nats; an
        estimate by the tokens themselves where its coefficient is 0) and, where its coefficient is not 0, `kl`.
        """
        ...

    def logprobs(self, data_D: Sequence[Datum]) -> list[list[float]]:
        """(D, counted tokens) log-probs of the trained weights, published or not; nothing is learned."""
        ...

    def optim_step(self, settings: StepSettings) -> Mapping[str, float]:
        """Apply the gathered gradient and clear it. Returns at least `grad_norm` (before clipping)."""
        ...

    def save_state(self, folder: Path, loop_state: Mapping[str, str]) -> None:
        """Write everything a resumed run needs to go on bit for bit: weights, optimizer, random state, `loop_state`.

        `loop_state` is the loop's own (data cursor, buffered samples), as texts. `MANIFEST` is written last.
        """
        ...

    def load_state(self, folder: Path) -> Mapping[str, str]:
        """Restore what `save_state` wrote; returns the loop's part. Raises `EngineRefused` for a foreign folder."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write what others can load of the trained weights. Raises `EngineRefused` where the engine cannot hand them out."""
        ...

    def publish(self) -> int:
        """Make the present weights the ones that `sample` and the servers use; returns their version, counting up."""
        ...

    def close(self) -> None:
        """Give back what others hold for this engine; nothing works afterwards."""
        ...
