"""A run that learns from logged suggestions: read, check, split, learn, and say what the log says of the result.

What the result would have saved is estimated on held-out rows (other programmers, later), by self-normalised importance
sampling: the mean of r with the weights w·min(Π ρ, c), w the truncated inverse of the propensity and Π ρ the ratio of the
whole suggestion (Swaminathan and Joachims 2015, "The Self-Normalized Estimator"). It is no measurement: it says nothing of
suggestions that the log does not hold, and little where few rows are effective; their number stands beside it.

A run that was killed goes on with the rows that it began with (`logged_memory`) and ends with the same weights, bit for bit
on a CPU with the same number of threads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coderl_gate.artifact import GateArtifact
from coderl_gate.dataset import MAX_WEIGHT
from coderl_gate.offpolicy import effective_sample_size
from coderl_store.records import Origin
from coderl_store.repository import LoggedRequest

from .checkpoints import BEST, write_checkpoint
from .engine import Engine, StepSettings
from .feedback import Feedback, Floats, datum_of, drift, feedback, loss_settings, ratios, truncated_weights
from .length_guard import LEAST_SHOWN, Lengths, Shown, by_length, require_length
from .logged import LoggedRows, LoggedSplit, Reading, agreeing, rows_from_log, split_rows, thinned
from .logged_memory import Noted
from .logged_tokens import PromptShape, TokenizerCodec
from .peak_memory import MEMORY, peak_mb
from .progress import Progress
from .recipe import Recipe
from .runs import RunFolder
from .schedules import learning_rate
from .sft import batches
from .statistics import paired_difference
from .types import Datum

_MOST_RATIO = 3.0
"""c: the largest ratio of a held-out suggestion."""


@dataclass(frozen=True, slots=True)
class Value:
    """What held-out rows say of some weights."""

    seconds: float
    """Saved per suggestion that the log shows."""
    effective: float
    """Rows that the weights leave."""
    weights: Floats
    """(rows,)"""
    lengths: Lengths


def read_log(
    recipe: Recipe,
    engine: Engine,
    requests: Iterable[LoggedRequest],
    *,
    origins: frozenset[Origin],
    critic: GateArtifact | None = None,
    noted: Noted | None = None,
) -> LoggedRows:
    """The rows that a run learns from: those that agree with the untouched weights, or those that were `noted` when it began.
    Raises `FeedbackError` where these are gone or changed."""
    shape = PromptShape(recipe.template, max_prefix_chars=recipe.logged.max_prefix_chars)
    codec, reading = TokenizerCodec(engine.tokenizer), Reading(origins, shape=shape, critic=critic)
    if noted is not None:
        return noted.require(rows_from_log(noted.as_they_were(requests), codec, reading))
    found = thinned(rows_from_log(requests, codec, reading), recipe.logged.most_rows)
    untouched = engine.logprobs([datum_of(row) for row in found.rows])
    return agreeing(found, untouched, recipe.logged.agreement_nats)


class LoggedTraining:
    """One run over a log. `run` is open; what is made here is closed by whoever made it."""

    def __init__(self, recipe: Recipe, engine: Engine, run: RunFolder, logged: LoggedRows) -> None:
        """`logged`: of `read_log`; they are noted in the run's folder. Raises `FeedbackError` and `TooFewEffective` where they
        are too few."""
        self.run = run
        self._recipe, self._engine, self.logged = recipe, engine, logged
        self.split: LoggedSplit = split_rows(logged.rows, seed=recipe.seed)
        self.feedback: Feedback = feedback(self.split.train, recipe.logged.learning)
        Noted.of(logged).write(run.path)
        self._step = 0
        self._before: Value | None = None

    @property
    def steps(self) -> int:
        """In all."""
        return sum(1 for _ in self._batches())

    @property
    def step(self) -> int:
        """The last complete one."""
        return self._step

    def go_on(self, checkpoint: Path) -> None:
        """Restore what `checkpoint` holds. Raises `EngineRefused` for one that this engine did not write."""
        kept = self._engine.load_state(checkpoint)
        self._step = int(kept["step"])
        self._before = self._valued(np.array(json.loads(kept["before"])))

    def train(self, progress: Progress) -> dict[str, Any]:
        """Go to the end; returns the manifest's `results`, the weights lie in `best/`.

        Raises `TooFewEffective` where the log says too little of the weights by now, and `LengthCollapse`.
        """
        if self._before is None:
            self._before = self._value()
            self.run.record(0, {**self.feedback.metrics(), **_told(self._before), MEMORY: peak_mb()})
            self._checkpoint()
        total, after = self.steps, None
        for number, batch in enumerate(self._batches(), 1):
            if number > self._step:
                after = self._learn(number, total, batch, progress)
        self._engine.publish()
        after = after or self._value()
        self._guard(self._before, after)
        self._engine.save_model(self.run.path / BEST)
        return {"heldout": self._compared(self._before, after)}

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _learn(self, number: int, total: int, batch: list[Datum], progress: Progress) -> Value | None:
        """One gradient step; returns what the log says after it, where that was looked at."""
        logged, value = self._recipe.logged, None
        rate = learning_rate(logged.learning_rate, number, total, logged.warmup_steps, logged.schedule)
        learned = self._engine.forward_backward(batch, loss_settings(logged.method, beta=logged.beta))
        stepped = self._engine.optim_step(StepSettings(rate))
        metrics = {
            "loss": learned["loss"],
            "clip_ratio/region_mean": learned["clip_share"],
            "grad_norm": stepped["grad_norm"],
            "learning_rate": rate,
            "gradient_step": number,
        }
        if number % logged.look_every == 0 or number == total:
            left = drift(self.feedback.data, self._engine.logprobs(self.feedback.data))
            value = self._value()
            metrics |= {"logged/ess_now": left.effective, **_told(value)}
        self._step = number
        row = self.run.record(number, {**metrics, MEMORY: peak_mb()})
        if number % self._recipe.checkpoint_every == 0 or number == total:
            self._checkpoint()
        progress.update(row)
        return value

    def _checkpoint(self) -> None:
        assert self._before is not None
        kept = {"step": str(self._step), "before": json.dumps(self._before.weights.tolist())}
        write_checkpoint(self.run.path, self._engine, self._step, kept)

    def _batches(self) -> Any:
        logged = self._recipe.logged
        return batches(self.feedback.data, logged.batch_tokens, logged.epochs, self._recipe.seed)

    def _value(self) -> Value:
        rows = self.split.held_out
        propensity, _ = truncated_weights([row.propensity for row in rows], MAX_WEIGHT)
        data = [datum_of(row) for row in rows]
        return self._valued(propensity * np.minimum(ratios(data, self._engine.logprobs(data)), _MOST_RATIO))

    def _valued(self, weights: Floats) -> Value:
        rows = self.split.held_out
        seconds = np.array([row.seconds for row in rows])
        shown = [
            Shown(row.chars, float(row.kept), min(row.retained_chars, row.chars), weight)
            for row, weight in zip(rows, weights.tolist(), strict=True)
        ]
        lengths = by_length(shown, float(weights.sum()))
        return Value(float(np.average(seconds, weights=weights)), effective_sample_size(weights), weights, lengths)

    def _guard(self, before: Value, after: Value) -> None:
        if len(self.split.held_out) >= LEAST_SHOWN:
            require_length(before.lengths, after.lengths)

    def _compared(self, before: Value, after: Value) -> dict[str, Any]:
        """Seconds per suggestion; the interval is a bootstrap over lineages of the rows' contributions to the difference."""
        rows = self.split.held_out
        seconds = np.array([row.seconds for row in rows])

        def contributions(value: Value) -> list[float]:
            return [float(one) for one in value.weights / value.weights.mean() * seconds]

        gained = paired_difference(contributions(before), contributions(after), [row.lineage_id for row in rows])
        return {
            "n": len(rows),
            "unit": "seconds saved per suggestion, estimated from the log",
            "before": before.seconds,
            "after": after.seconds,
            "difference": gained.to_json(),  # of one lineage the interval is not known
            "effective": after.effective,
            "lengths_judged": len(rows) >= LEAST_SHOWN,
        }


def _told(value: Value) -> Mapping[str, float]:
    return {"logged/seconds": value.seconds, "logged/heldout_ess": value.effective, **value.lengths.metrics()}
