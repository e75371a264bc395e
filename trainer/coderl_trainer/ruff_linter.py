"""The linter of the reward's part `quality`: ruff, as a program of its own.

Covered: what a program says to the linter counts for nothing (`noqa` and configuration files are ignored), and nothing of it is
run. Not covered: style beyond `RULES`; ruff is no dependency of CodeRL, its own release decides what a rule finds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .errors import RewardError
from .reward_parts import SYNTAX

RULES: Final = ("F", "B", "E7", "PLE")
"""Mistakes rather than taste: names that are undefined or never used, traps of the language, statements that do nothing."""


class RuffLinter:
    """Runs ruff once per call, on all programs of it. Raises `RewardError` where ruff is missing or does not answer."""

    def __init__(self, executable: Path | None = None, *, timeout_s: float = 60.0) -> None:
        """`executable`: None = beside this interpreter, else on the PATH."""
        beside = Path(sys.executable).with_name("ruff")
        found = executable or (beside if beside.is_file() else shutil.which("ruff"))
        if found is None:
            raise RewardError("The part quality of the reward needs ruff: pip install ruff, or leave the part out.")
        self._command = (
            *(str(found), "check", "--isolated", "--no-cache", "--ignore-noqa", "--exit-zero", "--quiet"),
            *("--output-format", "json", "--select", ",".join(RULES)),
        )
        self._timeout_s = timeout_s

    def findings(self, programs: Sequence[str]) -> list[Mapping[str, int]]:
        """Rule → how often, for each program; `SYNTAX` counts what keeps it from being a program."""
        if not programs:
            return []
        with tempfile.TemporaryDirectory(prefix="coderl-lint-") as folder:
            paths = [Path(folder) / f"{number}.py" for number in range(len(programs))]
            for path, program in zip(paths, programs, strict=True):
                path.write_text(program, encoding="utf-8", errors="replace", newline="")
            counts = [Counter[str]() for _ in programs]
            for row in self._rows(paths):
                counts[int(Path(row["filename"]).stem)][row["code"] or SYNTAX] += 1
        return list(counts)

    def _rows(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        command = [*self._command, "--", *map(str, paths)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=self._timeout_s, cwd=paths[0].parent, check=True)
            rows: list[dict[str, Any]] = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise RewardError(f"ruff did not answer within {self._timeout_s:g} s on {len(paths)} programs.") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip() or f"it ended with status {error.returncode}"
            raise RewardError(f"ruff does not do its work: {said}.") from error
        except (OSError, ValueError) as error:
            raise RewardError(f"ruff does not do its work: {error}.") from error
        return rows
