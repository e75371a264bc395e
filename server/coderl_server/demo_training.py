"""The end of `coderl demo`: one real, tiny training step from the demo's own log, where the extra `train` is installed.

What runs is `coderl train --from-log --include-simulated` with the shipped recipe `demo`: rows of the log that was just
written, one gradient step on the embedded model, a run folder with its page. The log itself is thrown away with the demo's
folder, so this run cannot be gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from .errors import InputError

NEEDED = ("torch", "transformers", "peft", "gguf")
ABSENT = "A training step from this log would follow here; it needs torch, which `make install-train` installs."


@dataclass(frozen=True, slots=True)
class DemoStep:
    """What the step did; or, with `absent`, why there was none."""

    absent: str = ""
    rows: int = 0
    """Logged suggestions that were used, to learn from or to judge by."""
    judged: int = 0
    """Of them, those held out: the later ones."""
    left_out: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    steps: int = 0
    before: float | None = None
    """Seconds saved per held-out suggestion, as the log estimates them for the weights before the step."""
    after: float | None = None
    run_dir: str = ""
    report: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        if self.absent:
            return {"absent": self.absent}
        names = ("rows", "judged", "steps", "before", "after", "run_dir", "report")
        return {**{name: getattr(self, name) for name in names}, "left_out": dict(self.left_out)}

    def render(self, console: Console) -> None:
        """Two sentences."""
        if self.absent:
            console.print(self.absent, highlight=False, soft_wrap=True)
            return
        reasons = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.left_out.items())
        console.print(
            f"{self.steps} gradient step{'' if self.steps == 1 else 's'} of the embedded model on {self.rows - self.judged} "
            f"suggestions of this log, judged by {self.judged} later ones (left out: {reasons or 'none'}). Seconds saved per "
            f"suggestion, estimated from the log: {self.before:+.3f} before, {self.after:+.3f} after, from too few to conclude "
            f"anything; the page is {self.report}",
            highlight=False,
            soft_wrap=True,
        )


def missing() -> tuple[str, ...]:
    """The libraries of the extra `train` that are not installed."""
    return tuple(name for name in NEEDED if find_spec(name) is None)


def learn(database_url: str, runs: Path, model: str) -> DemoStep:
    """One run from this log into `runs`. Why there was none (a log that holds too little, a full disk) is told and not raised:
    the demo's own result stands without it."""
    from coderl_trainer.errors import TrainerError
    from coderl_trainer.logged_memory import Noted
    from coderl_trainer.recipe import shipped_recipes

    from .training import TrainOptions, train

    if missing():
        return DemoStep(absent=ABSENT)
    options = TrainOptions(
        recipe=shipped_recipes()["demo"],
        model=model,
        runs=runs,
        from_log=True,
        database=database_url,
        include_simulated=True,
        passing=True,
    )
    try:
        done = train(options)
    except (InputError, TrainerError) as error:
        return DemoStep(absent=f"No training step: {error}")
    assert done is not None  # nobody runs a demo by several processes
    noted = Noted.read(Path(done.run_dir))
    return DemoStep(
        rows=len(noted.rows),
        judged=int(done.heldout["n"]),
        left_out=MappingProxyType({reason.value: count for reason, count in noted.left_out.items()}),
        steps=done.steps,
        before=done.heldout["before"],
        after=done.heldout["after"],
        run_dir=done.run_dir,
        report=done.report,
    )
