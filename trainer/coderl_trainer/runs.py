"""`RunFolder`: everything a training run writes, in a folder of its own.

    runs/20261120T090000Z-name/
      config.json        the resolved configuration, canonical: equal settings give equal bytes
      environment.json   Python, platform, cores, versions
      git.json           commit, whether it was changed; or why it is not known
      metrics.jsonl      one row per rollout step: step, time_s, and flat names (`coderl_trainer.metric_names`)
      samples.jsonl      what was sampled: prompt, text, reward by part, advantage, why it was skipped
      heldout.jsonl      at the end: each held-out task, the answer to it, and whether it was solved before and after
      resumed.jsonl      one row per time the run went on after an end: from which step, where
      manifest.json      last: how it ended, and the SHA-256 of every file
      report.html, plots/    made from the rest (`coderl_trainer.report`)

A step is complete when its row of metrics is safe on the disk; its samples are safe before that. The process that writes holds
a `flock` on metrics.jsonl, by which others see that the run is alive: the kernel lets go of it however the process dies.

Covered: a process killed at any moment loses at most the step it was in; two processes never write one run; a folder that
exists is never written over. Not covered: checkpoints (their writer puts them into the folder, and they are in the
manifest), a forked child that outlives the writer (it keeps the lock, so the run seems alive), and file systems whose `flock`
is only local.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from coderl_store.clock import Clock, SystemClock, utc
from coderl_store.segment import sync_directory

from .errors import RunError
from .metric_names import NAME, RESERVED
from .provenance import environment, git_state
from .run_files import (
    CONFIG,
    ENVIRONMENT,
    GIT,
    HELD_OUT,
    MANIFEST,
    METRICS_FILE,
    RESUMED,
    SAMPLES,
    LineFile,
    canonical,
    digests,
    lines,
    read_json,
    write_whole,
)

FINISHED: Final = "finished"
FAILED: Final = "failed"
SCHEMA: Final = 1
"""Of the manifest."""
_RUN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SAME_SECOND: Final = 100
_LOOK_S: Final = 0.5
"""A lock that is held for longer is a writer's."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sampled text, as samples.jsonl holds it."""

    task_id: str
    prompt: str
    text: str
    rewards: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))
    """By name of the part; None = that part had nothing to say."""
    reward: float | None = None
    """All parts together; None = ungraded."""
    advantage: float | None = None
    """None = not learned from."""
    group: int = 0
    """Which group of the step; samples of one group are compared with one another."""
    skipped: str = ""
    """Why it was not learned from: a `Degenerate`, `ungraded`, …; empty = it was."""

    def to_json(self, step: int) -> dict[str, Any]:
        """A line of samples.jsonl."""
        return {
            "step": step,
            "group": self.group,
            "task_id": self.task_id,
            "prompt": self.prompt,
            "text": self.text,
            "rewards": {name: _finite(value) for name, value in self.rewards.items()},
            "reward": _finite(self.reward),
            "advantage": _finite(self.advantage),
            "skipped": self.skipped,
        }


class RunFolder:
    """The folder of one run, open for writing. `create` or `reopen` it, best in a `with`: what escapes from there is written
    down as the reason of a failure."""

    def __init__(self, path: Path, metrics: LineFile, samples: LineFile, clock: Clock) -> None:
        """For `create` and `reopen`."""
        self.path = path
        self._metrics = metrics
        self._samples = samples
        self._clock = clock
        self._start_s = clock.now_s()
        self._last_step: int | None = None
        self._steps = 0
        self._open = True

    @classmethod
    def create(cls, runs: Path, name: str, config: Any, *, clock: Clock | None = None) -> Self:
        """A new folder `<utc>-<name>` in `runs`, which is made. `config` is anything `run_files.canonical` can write.

        Raises `RunError` for a name or a configuration that a folder cannot hold, and where the disk refuses.
        """
        clock = SystemClock() if clock is None else clock
        if not _RUN_NAME.fullmatch(name):
            raise RunError(
                f"A run must be called by letters, digits, dots, hyphens and underscores (at most 64), not {name!r}."
            )
        text = canonical(config)
        path = _new_folder(runs, f"{utc(clock.now_s()):%Y%m%dT%H%M%SZ}-{name}")
        write_whole(path / ENVIRONMENT, canonical({"started": utc(clock.now_s()), **environment()}))
        write_whole(path / GIT, canonical(git_state()))
        metrics, samples = _open_lines(path)
        write_whole(path / CONFIG, text)
        return cls(path, metrics, samples, clock)

    @classmethod
    def reopen(cls, path: Path, step: int, *, clock: Clock | None = None) -> Self:
        """Go on with a run whose state after `step` is at hand: later rows and half lines are cut off both files.

        The manifest of an earlier end is removed; resumed.jsonl says that the run went on. Raises `RunError` where `path` holds
        no run, another process writes it, its files are damaged, or it never completed that step (0 = from the beginning).
        """
        clock = SystemClock() if clock is None else clock
        read_json(path / CONFIG)
        metrics, samples = _open_lines(path)
        try:
            kept, last, time_s, end = 0, None, 0.0, 0
            newest = 0
            for row, offset in lines(metrics.path):
                newest = row["step"]
                if newest <= step:
                    kept, last, end = kept + (newest > 0), newest, offset
                    time_s = float(row.get("time_s") or 0.0)
            if step < 0 or step > newest:
                raise RunError(f"{path} cannot go on after step {step}: its last complete step is {newest}.")
            samples_end = 0
            for row, offset in lines(samples.path):
                samples_end = offset if row["step"] <= step else samples_end
            (path / MANIFEST).unlink(missing_ok=True)
            sync_directory(path)
            metrics.cut(end)  # first: rows of metrics without their samples would count as complete
            samples.cut(samples_end)
            _note_resumed(path, step, clock)
        except BaseException:
            metrics.close()
            samples.close()
            raise
        folder = cls(path, metrics, samples, clock)
        folder._start_s -= time_s
        folder._last_step, folder._steps = last, kept
        return folder

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return read_json(self.path / CONFIG)

    @property
    def last_step(self) -> int | None:
        """The last complete step; None = none yet."""
        return self._last_step

    def record(self, step: int, metrics: Mapping[str, float | None], samples: Sequence[SampleRow] = ()) -> dict[str, Any]:
        """Write one complete step and give its row of metrics back; step 0 is what was measured before training.

        A value that is not finite is written as null and its name listed under `not_finite`, so that the file stays strict JSON
        and the divergence can be seen. Raises `RunError` for a step that is not after the last one, for names that are no
        metric's and values that are no numbers, and where the disk refuses.
        """
        self._require_open()
        if step < 0 or (self._last_step is not None and step <= self._last_step):
            raise RunError(f"Step {step} cannot follow step {self._last_step}.")
        row: dict[str, Any] = {"step": int(step), "time_s": round(self._clock.now_s() - self._start_s, 3)}
        row |= {name: _metric(name, value) for name, value in metrics.items()}
        unknown = [name for name, value in metrics.items() if value is not None and row[name] is None]
        if unknown:
            row["not_finite"] = unknown
        self._samples.append([sample.to_json(step) for sample in samples])
        self._metrics.append([row])
        self._last_step, self._steps = step, self._steps + (step > 0)
        return row

    def hold_out(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write heldout.jsonl. Raises `RunError`."""
        self._require_open()
        write_whole(self.path / HELD_OUT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def finish(self, *, best: Mapping[str, Any] | None = None, results: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the manifest of a run that came to its end, and give it back.

        `best` says which step was the best by what, `results` what else is worth a line (held out before and after, …). Raises
        `RunError`.
        """
        return self._end(FINISHED, "", best, results)

    def fail(self, reason: str, *, best: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the manifest of a run that did not come to its end, and give it back. Raises `RunError`."""
        return self._end(FAILED, reason, best, None)

    def close(self) -> None:
        """Let go of the files; without `finish` or `fail` the run then counts as killed, and can be gone on with."""
        if self._open:
            self._open = False
            self._metrics.close()
            self._samples.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None) -> None:
        if kind is not None and self._open:
            words = "interrupted" if issubclass(kind, KeyboardInterrupt) else f"{kind.__name__}: {error}"
            try:
                self.fail(words)
            except RunError as second:
                if error is not None:
                    error.add_note(str(second))
        self.close()

    def _end(
        self, status: str, reason: str, best: Mapping[str, Any] | None, results: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        self._require_open()
        now_s = self._clock.now_s()
        manifest = {
            "schema": SCHEMA,
            "status": status,
            "reason": reason,
            "ended": utc(now_s).isoformat(),
            "time_s": round(now_s - self._start_s, 3),
            "steps": self._steps,
            "last_step": self._last_step,
            "best": best,
            "results": results or {},
            "files": digests(self.path),
        }
        write_whole(self.path / MANIFEST, canonical(manifest))
        self.close()
        return manifest

    def _require_open(self) -> None:
        if not self._open:
            raise RunError(f"{self.path} is closed: nothing can be written any more.")


def is_written(path: Path) -> bool:
    """A process writes this run now. Raises `RunError` where that cannot be found out."""
    try:
        descriptor = os.open(path / METRICS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunError(f"{path / METRICS_FILE} cannot be read: {error.strerror or error}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _new_folder(runs: Path, name: str) -> Path:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for number in range(1, _SAME_SECOND):
            path = runs / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            sync_directory(runs)
            return path
    except OSError as error:
        raise RunError(f"No folder for the run can be made in {runs}: {error.strerror or error}.") from error
    raise RunError(f"{runs} holds {_SAME_SECOND - 1} runs {name} already.")


def _open_lines(path: Path) -> tuple[LineFile, LineFile]:
    """Both files, the first of them locked."""
    metrics = LineFile(path / METRICS_FILE)
    try:
        if not _locked(metrics.descriptor):
            raise RunError(f"{path} is being written by another process.")
        return metrics, LineFile(path / SAMPLES)
    except RunError:
        metrics.close()
        raise


def _locked(descriptor: int) -> bool:
    """Whether the lock was got; a reader that looks whether it is held (`is_written`) holds it for a moment itself."""
    until_s = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until_s:
                return False
            time.sleep(_LOOK_S / 50)


def _note_resumed(path: Path, step: int, clock: Clock) -> None:
    notes = LineFile(path / RESUMED)
    try:
        known = [offset for _, offset in lines(notes.path, ordered=False)]
        notes.cut(known[-1] if known else 0)
        notes.append([{"step": step, "at": utc(clock.now_s()).isoformat(), "environment": environment(), "git": git_state()}])
    finally:
        notes.close()


def _metric(name: str, value: Any) -> float | int | None:
    if name in RESERVED or not NAME.fullmatch(name):
        raise RunError(f"A metric cannot be called {name!r}.")
    if value is not None and not isinstance(value, Real):
        raise RunError(f"The metric {name} is a {type(value).__name__}, not a number.")
    return _finite(value)


def _finite(value: Any) -> float | int | None:
    """A plain number, or None for what JSON cannot say."""
    if value is None:
        return None
    number = int(value) if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None
