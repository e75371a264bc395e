"""What a loop keeps of its weights: checkpoints to go on from, and the best by the validation tasks as the run's result."""

from __future__ import annotations

from pathlib import Path

from .checkpoints import BEST, LoopState, keep_best, write_checkpoint
from .curriculum import Curriculum
from .engine import Engine
from .policy_steps import PolicySteps


class Keeper:
    """Keeps them in a run's folder, with the loop's own counters (`state`) and the policy's schedules."""

    def __init__(self, run: Path, engine: Engine, policy: PolicySteps) -> None:
        self._run, self._engine, self._policy = run, engine, policy
        self.state = LoopState()

    def go_on(self, checkpoint: Path) -> Curriculum | None:
        """Restore what `checkpoint` holds; its curriculum, where it has one. Raises `EngineRefused` for one that this engine
        did not write."""
        self.state = LoopState.of(self._engine.load_state(checkpoint))
        self._policy.resume(self.state.clip, self.state.entropy)
        return Curriculum.from_json(self.state.curriculum) if self.state.curriculum else None

    def checkpoint(self, step: int, curriculum: Curriculum | None) -> None:
        """Keep the state after `step`. Raises `RunError` where the disk refuses."""
        self.state.clip, self.state.entropy = self._policy.state()
        self.state.curriculum = "" if curriculum is None else curriculum.to_json()
        write_checkpoint(self._run, self._engine, step, self.state.to_texts())

    def keep_if_best(self, step: int, rate: float | None) -> None:
        """Make the present weights the run's result where they solve more than any before; None = not known."""
        if rate is not None and rate > self.state.best_rate:
            self.state.best_rate = rate
            self._keep(step)

    def finish(self, steps: int, *, judged: bool) -> None:
        """Go back to the best weights, or make the last ones the result where no validation task `judged` any."""
        if not judged:
            self._keep(steps)
        elif self.state.best_step != self.state.step:
            self._engine.load_state(self._run / BEST / "state")

    def _keep(self, step: int) -> None:
        self.state.best_step = step

        def write(folder: Path) -> None:
            self._engine.save_state(folder / "state", {})
            self._engine.save_model(folder)

        keep_best(self._run, write)
