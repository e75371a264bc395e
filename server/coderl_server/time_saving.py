"""Seconds that a model saves on given files: a simulated programmer types them into the real service.

The session is that of `coderl simulate` (`coderl_server.simulate`), in a data folder of its own that is thrown away, so the log
of this machine gets no row and its own gate does not matter: the shipped one decides, unless another is named. Same files and
same seed are the same keys and pauses, whatever the model, so that two models can be compared file by file.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .model_choice import model_file
from .simulate import Counters, FileReport, SimulateOptions, run
from .simulate.report import percentile

if TYPE_CHECKING:
    from rich.console import Console

    from coderl_gate.offpolicy import Interval


@dataclass(frozen=True, slots=True)
class TypingOptions:
    """What is typed, and under which gate."""

    files: tuple[Path, ...] = ()
    """Empty = nothing."""
    max_requests: int | None = None
    """Per file; None = at every pause."""
    max_chars: int | None = None
    """Per file; None = all of it."""
    gate: Path | None = None
    """None = the shipped one."""
    rule: str = "entropy"


@dataclass(frozen=True, slots=True)
class TimeSaved:
    """One model's session."""

    files: tuple[FileReport, ...]
    rule: str
    seed: int
    messages: tuple[str, ...] = ()
    """What the server said to the user."""

    @property
    def rates(self) -> dict[str, float]:
        """File → seconds saved per 1000 keystrokes that it takes without suggestions."""
        return {part.file: part.counters.seconds_saved_per_1000_keystrokes or 0.0 for part in self.files}

    @property
    def names(self) -> dict[str, str]:
        """File → what it is called in tables and pictures: its name, with as many folders as tell it from the others."""
        return told_apart([part.file for part in self.files])

    @property
    def mean(self) -> Interval:
        """Mean of the files' rates; the interval draws files."""
        from coderl_trainer.time_saved import mean_saved

        return mean_saved(list(self.rates), list(self.rates.values()), seed=self.seed)

    @property
    def total(self) -> Counters:
        """All files."""
        total = Counters()
        for part in self.files:
            total.add(part.counters)
        return total

    def by_length(self) -> dict[str, dict[str, float]]:
        """Suggestions that were read, by their length: how many, and the seconds they saved together."""
        from coderl_trainer.task_parts import by_length

        parts = by_length(self.total.readings, lambda reading: reading[0])
        return {name: {"seen": len(part), "seconds_saved": _rounded(part)} for name, part in parts.items()}

    def to_json(self) -> dict[str, Any]:
        """The figures; what is not known is None."""
        total = self.total
        return {
            "per_1000_keystrokes": self.mean.to_json(),
            "total_s": round(total.seconds_saved, 6),
            **_counted(total),
            "by_length": self.by_length(),
            "files": [
                {
                    "file": part.file,
                    "per_1000_keystrokes": self.rates[part.file],
                    "total_s": round(part.counters.seconds_saved, 6),
                    **_counted(part.counters),
                }
                for part in self.files
            ],
            "latency_ms": {"p50": percentile(total.latencies_ms, 0.5), "p95": percentile(total.latencies_ms, 0.95)},
            "rule": self.rule,
            "seed": self.seed,
            "messages": list(self.messages),
        }

    def render(self, console: Console) -> None:
        """A table by file and by length."""
        from rich.table import Table

        table = Table(title="Typed by a simulated programmer", title_justify="left")
        table.add_column("file")
        for heading in ("keys", "seen", "taken", "seconds saved", "per 1000 keys"):
            table.add_column(heading, justify="right")
        for part in self.files:
            counters = part.counters
            taken = str(counters.accepted + counters.partially_accepted)
            saved = f"{counters.seconds_saved:+.1f}"
            cells = (str(counters.keystrokes_without), str(counters.seen), taken, saved, f"{self.rates[part.file]:+.1f}")
            table.add_row(self.names[part.file], *cells, end_section=part is self.files[-1])
        for name, part_ in self.by_length().items():
            table.add_row(f"seen: {name}", "", f"{part_['seen']:.0f}", "", f"{part_['seconds_saved']:+.1f}", "")
        console.print(table)
        found = self.mean
        reach = "" if math.isnan(found.low) else f" [{found.low:+.1f}, {found.high:+.1f}]"
        console.print(
            f"• {found.estimate:+.1f} s{reach} saved per 1000 keystrokes, mean over {len(self.files)} files.", highlight=False
        )
        for message in self.messages:
            console.print(f"• The server said: {message}", highlight=False, markup=False)


def told_apart(files: Sequence[str]) -> dict[str, str]:
    """File → the shortest end of its path that no other file's path ends with, so that no two are called the same."""
    parts = {file: Path(file).parts for file in files}

    def end(file: str, count: int) -> tuple[str, ...]:
        return parts[file][-count:]

    def name(file: str) -> str:
        others = [other for other in parts if other != file]
        for count in range(1, len(parts[file]) + 1):
            if all(end(other, count) != end(file, count) for other in others):
                return str(Path(*end(file, count)))
        return file

    return {file: name(file) for file in parts}


def check_files(files: Sequence[Path]) -> None:
    """Raises `InputError` where a file stands twice, or cannot be read."""
    twice = sorted({str(path) for path in files if list(files).count(path) > 1})
    if twice:
        raise InputError(f"--files names {', '.join(twice)} twice.")
    for path in files:
        if not path.is_file():
            raise InputError(f"--files {path} is not there, or is no file: name source files.")


def time_saved(
    typing: TypingOptions, *, backend: str, model: str, script: Path | None, seed: int, console: Console | None = None
) -> TimeSaved:
    """Type the files with a model. Raises `InputError` for files or a model that cannot be used, `ServerFailed` where the
    server died."""
    with tempfile.TemporaryDirectory(prefix="coderl-eval-") as folder:
        report = run(
            SimulateOptions(
                files=typing.files,
                seed=seed,
                max_requests=typing.max_requests,
                max_chars=typing.max_chars,
                backend=backend,
                model=model_file(model) if backend == "llamacpp" else model,
                script=script,
                gate=typing.gate,
                rule=typing.rule,
                home=Path(folder),
            ),
            console,
        )
    for part in report.files:
        if not part.counters.keystrokes_without:
            raise InputError(f"--files {part.file} holds nothing to type.")
    return TimeSaved(report.files, typing.rule, seed, report.messages)


def _counted(counters: Counters) -> Mapping[str, int]:
    names = ("keystrokes_without", "keystrokes_saved", "requests", "seen", "accepted", "partially_accepted")
    return {name: getattr(counters, name) for name in names}


def _rounded(part: Sequence[tuple[int, float]]) -> float:
    return round(math.fsum(seconds for _, seconds in part), 6)
