"""The rows of an evaluation, one per task: what they hold, and the file that `coderl eval --out` writes and goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import InputError

if TYPE_CHECKING:
    from coderl_trainer.solve_rates import Tries

TRIVIAL: Final = "trivial"
"""The outcome of a task that an empty completion solves."""
UNTESTED: Final = "untested"
"""The outcome of a task without tests."""
JUDGE_FAILED: Final = "judge_failed"
"""The tests could not be run: nothing is known of the completion."""
SOLVED: Final = "passed"
VERDICTS: Final = frozenset({SOLVED, "failed", "timed_out"})
"""Outcomes that say something of the model."""
_FIRST_LINE: Final = 1_000_000
"""Bytes of a file that are read to tell what it is."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one task; a line of `--out`."""

    task_id: str
    run: str
    """A digest of what was run: rows of another run are not mixed in."""
    outcome: str
    """`passed`, `failed`, `timed_out`, or one of the constants above. Of the first sample, and so is all up to `reason`."""
    completion: str = ""
    exact: bool = False
    latency_ms: float | None = None
    first_token_ms: float | None = None
    tokens: int = 0
    """Decoded."""
    reason: str = ""
    """Why the completion ended."""
    group: str | None = None
    """The base problem, empty where the task names none; None in rows written before this was kept."""
    tier: str = ""
    """How hard the task is said to be; empty = not said."""
    answer_chars: int | None = None
    """Length of the text that was there; None = not known."""
    kind: str = ""
    """`infill`, `function` or `repair`; empty in rows written before this was kept."""
    passed_visible: bool | None = None
    """The first sample passes the tests that rewards are made of; None = not judged, or not kept then."""
    outcomes: tuple[str, ...] = ()
    """Of every sample, the first among them; empty where there is only one."""
    completions: tuple[str, ...] = ()
    exacts: tuple[bool, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """The outcomes of all samples."""
        return self.outcomes or (self.outcome,)

    @property
    def counts(self) -> tuple[int, int]:
        """(Graded samples, correct ones)."""
        return sum(one in VERDICTS for one in self.every), sum(one == SOLVED for one in self.every)

    @property
    def tries(self) -> Tries:
        """The same for `coderl_trainer.solve_rates`."""
        from coderl_trainer.solve_rates import Tries

        samples, correct = self.counts
        exact = sum(self.exacts) if self.exacts else int(self.exact)
        return Tries(
            self.task_id,
            samples,
            correct,
            exact,
            len(self.every),
            problem=self.group or "",
            kind=self.kind,
            tier=self.tier,
            answer_chars=self.answer_chars,
        )


def read_rows(path: Path) -> dict[str, Row]:
    """The rows that `coderl eval --out` wrote, by task, without the half line of a run that was cut. Raises `InputError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return _by_task(text[: text.rfind("\n") + 1], path)


def rows_to_go_on_from(out: Path | None, run: str) -> dict[str, Row]:
    """The rows of an earlier run, by task; those whose judge failed are judged again, a half line is cut off. Raises
    `InputError` for a file of another run."""
    if out is None or not out.exists():
        return {}
    try:
        text = out.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a line that was cut while it was written is written again
        rows = _by_task(whole, out)
        if whole != text and rows:
            out.write_text(whole, encoding="utf-8")
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"--out {out} holds something else than rows of an evaluation: {error}") from error
    if text and not rows:
        raise InputError(f"--out {out} holds something else than rows of an evaluation: name another file.")
    if any(row.run != run for row in rows.values()):
        raise InputError(f"--out {out} holds rows of another model or other options: name another file.")
    return {name: row for name, row in rows.items() if JUDGE_FAILED not in row.every}


def append_row(out: Path | None, row: Row) -> None:
    """Add a row to a file, where one is kept. Raises `InputError`."""
    if out is None:
        return
    try:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error}.") from error


def is_rows(path: Path) -> bool:
    """Whether a file holds rows of an evaluation, by its first line."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(_FIRST_LINE))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"task_id", "run", "outcome"} <= first.keys()


def latencies_ms(rows: Iterable[Row]) -> list[float]:
    """Those that are known, the shortest first."""
    return sorted(row.latency_ms for row in rows if row.latency_ms is not None)


def _by_task(whole: str, path: Path) -> dict[str, Row]:
    rows = [_row(line, f"{path} line {number}") for number, line in enumerate(whole.split("\n"), 1) if line.strip()]
    return {row.task_id: row for row in rows}


def _row(line: str, where: str) -> Row:
    known = {field.name for field in fields(Row)}
    try:
        found = json.loads(line)
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if name in known
        }
        return Row(**told)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is no row of an evaluation: {error}.") from error
