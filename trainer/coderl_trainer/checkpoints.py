"""A run's checkpoints: what its engine and its loop need to go on, one folder a step. The last two are kept.

A checkpoint is complete when the engine's manifest is there, which is written last; a half one counts for nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .engine import MANIFEST, Engine
from .errors import RecipeError, RunError
from .run_files import writing

BEST: Final = "best"
"""The folder of a run's result."""
CHECKPOINTS: Final = "checkpoints"
_KEPT: Final = 2


@dataclass(slots=True)
class LoopState:
    """What a loop's checkpoint holds beside the engine's state."""

    step: int = 0
    gradient_steps: int = 0
    tokens: int = 0
    best_step: int = 0
    best_rate: float = -1.0
    before: dict[str, bool | None] = field(default_factory=dict)
    """Held-out tasks before training: id → solved."""
    curriculum: str = ""
    clip: str = ""
    entropy: str = ""

    def to_texts(self) -> dict[str, str]:
        """As `write_checkpoint` takes it."""
        return {name: json.dumps(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, given: Mapping[str, str]) -> LoopState:
        """What `to_texts` gave."""
        return cls(**{name: json.loads(given[name]) for name in cls.__dataclass_fields__})


def write_checkpoint(run: Path, engine: Engine, step: int, loop_state: Mapping[str, str]) -> None:
    """Keep the state after `step`, and of the older ones the newest. Raises `RunError` where the disk refuses."""
    folder = run / CHECKPOINTS
    engine.save_state(folder / f"{step:06d}", loop_state)
    try:
        for old in sorted(folder.iterdir())[:-_KEPT]:
            shutil.rmtree(old)
    except OSError as error:
        raise RunError(f"Old checkpoints in {folder} cannot be removed: {error.strerror or error}.") from error


def keep_best(run: Path, write: Callable[[Path], None]) -> None:
    """Make what `write` writes into a folder the run's result, whole or not at all. `RunError` where the disk refuses."""
    folder = run / BEST
    new = folder.with_name(f".{BEST}.new")
    shutil.rmtree(new, ignore_errors=True)
    with writing(folder):
        write(new)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def last_checkpoint(run: Path) -> tuple[int, Path]:
    """(step, folder) of the newest checkpoint that is complete. Raises `RecipeError` where there is none."""
    folder = run / CHECKPOINTS
    found = [one for one in folder.iterdir() if (one / MANIFEST).is_file()] if folder.is_dir() else []
    if not found:
        raise RecipeError(f"{run} holds no checkpoint to go on from; start the run anew.")
    newest = max(found)
    return int(newest.name), newest
