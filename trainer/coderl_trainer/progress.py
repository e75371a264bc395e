"""How far a training is, on standard error: a bar on a terminal, else one line every few steps. Standard output stays free."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from coderl_store.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

EVERY: Final = 10
"""Steps between two lines where there is no terminal."""
_RECENT: Final = 20
"""Steps whose mean time the rest is expected to take."""


class Progress:
    """Told of every step; says step, reward, solve rate and the time left. Use it in a `with`."""

    def __init__(
        self, total: int, *, done: int = 0, every: int = EVERY, stream: TextIO | None = None, clock: Clock | None = None
    ) -> None:
        """`total` steps in all, `done` of them before this start; `stream` is standard error, where not given."""
        self._total = total
        self._every = max(1, every)
        self._stream = sys.stderr if stream is None else stream
        self._clock = SystemClock() if clock is None else clock
        self._done = done
        self._durations_s: deque[float] = deque(maxlen=_RECENT)
        self._since_s = self._clock.now_s()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end, if the other steps take as long as the last ones; None = no step yet."""
        if not self._durations_s:
            return None
        return sum(self._durations_s) / len(self._durations_s) * max(0, self._total - self._done)

    def update(self, metrics: Mapping[str, Any]) -> None:
        """One more step is done; `metrics` is its row."""
        now_s = self._clock.now_s()
        self._durations_s.append(now_s - self._since_s)
        self._since_s = now_s
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, words=self._words(metrics))
        elif self._done % self._every == 0 or self._done == self._total:
            self.say(f"step {self._done}/{self._total} · {self._words(metrics)}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _words(self, metrics: Mapping[str, Any]) -> str:
        reward, solved = metrics.get("reward"), metrics.get("solve/visible")
        parts = [_gain(metrics) if reward is None else f"reward {reward:.3f}"]
        if solved is not None:
            parts.append(f"solved {solved:.1%}")
        parts.append("time left –" if self.left_s is None else f"{clock_time(self.left_s)} left")
        return " · ".join(parts)

    def __enter__(self) -> Self:
        from rich.console import Console

        console = Console(file=self._stream)
        if self._stream.isatty() and not console.is_dumb_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[words]}", markup=False))
            self._bar = Bar(*columns, console=console)
            self._task = self._bar.add_task("", total=self._total, completed=self._done, words="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _gain(metrics: Mapping[str, Any]) -> str:
    """What a step without a reward came to: its loss, and the seconds per suggestion where the log was asked for them."""
    loss, saved = metrics.get("loss"), metrics.get("logged/seconds")
    return " · ".join(
        ["loss –" if loss is None else f"loss {loss:.3f}", *([] if saved is None else [f"saves {saved:+.2f} s a suggestion"])]
    )


def clock_time(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
