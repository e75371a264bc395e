"""A run's metrics for TensorBoard, where its package is installed (extra `train`); torch is not needed for it.

The curves lie in the run's folder under `tensorboard/`, by the names of metrics.jsonl, over the rollout step. A run that goes
on after a step says so, and TensorBoard drops what came after it before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from coderl_store.clock import Clock, SystemClock

from .metric_names import RESERVED

FOLDER: Final = "tensorboard"
MISSING: Final = "TensorBoard is not installed, so no curves are written for it (pip install tensorboard)."


def tensorboard_writer(
    run: Path, say: Callable[[str], None], *, after_step: int | None = None, clock: Clock | None = None
) -> TensorBoardWriter | None:
    """A writer into the run's folder; None where the package is absent, which `say` is told once.

    `after_step` is the step after which a run goes on; None = a new run.
    """
    if find_spec("tensorboard") is None:
        say(MISSING)
        return None
    return TensorBoardWriter(run / FOLDER, after_step, SystemClock() if clock is None else clock)


class TensorBoardWriter:
    """Scalars into one event file."""

    def __init__(self, folder: Path, after_step: int | None, clock: Clock) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = event_pb2
        self._clock = clock
        self._writer = EventFileWriter(str(folder))
        if after_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.add_event(event_pb2.Event(wall_time=clock.now_s(), step=after_step + 1, session_log=start))

    def record(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl: its numbers, at its step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if name not in RESERVED and isinstance(value, int | float)
        ]
        summary = Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=self._clock.now_s(), step=row["step"], summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()
