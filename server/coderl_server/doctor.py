"""`coderl doctor`: what works on this machine and what does not, each line with its cure. Looks: a data folder that is missing
is made (that is its check), but no database, and no schema is migrated.

Covered: data folder, database, spool, gate artifact (also whether it fits the generator that the editor used last), embedded
model (it really decodes), drift, editors on PATH, the jail for generated programs (one runs in it), GPU.
Not covered: whether an editor is configured (its own `:checkhealth` or output panel says that), remote endpoints.
"""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from coderl_gate.drift import Drift
from coderl_gate.errors import GateError
from coderl_gate.fitness import Fit
from coderl_gate.gate import active_artifact
from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import GeneratorError, JailUnavailable
from coderl_generator.jail import Limits, open_jail
from coderl_generator.models import EMBEDDED, find_model
from coderl_generator.promotion import Kind, active, find_active
from coderl_generator.registry import backend
from coderl_store.errors import LogMissing, LogOutdated, StoreError
from coderl_store.home import StoreSettings
from coderl_store.records import Decision, Origin, Session
from coderl_store.repository import Repository

from .drifting import LOOK_BACK, drifts_of
from .gates import fit_sentence, generator_fit

PROBE_TIMEOUT_S = 10.0
NEOVIM_NEEDED = (0, 12)


class State(StrEnum):
    """`FAILS` alone makes the doctor's exit code 1: something the main job needs."""

    WORKS = "works"
    MISSING = "missing"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    text: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        return all(finding.state is not State.FAILS for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"works": self.works, "findings": [asdict(finding) for finding in self.findings]}

    def render(self, console: Any) -> None:
        marks = {State.WORKS: "[green]✓[/]", State.MISSING: "[yellow]–[/]", State.FAILS: "[red]✗[/]"}
        for finding in self.findings:
            console.print(f"{marks[finding.state]} [bold]{finding.name}[/]  {finding.text}", highlight=False)
            if finding.cure:
                console.print(f"    → {finding.cure}", highlight=False)


def examine() -> Examination:
    """Run every check; a check that cannot run is a finding of its own."""
    findings = [Finding("Python", State.WORKS, f"{platform.python_version()} at {sys.executable}")]
    try:
        store = StoreSettings.from_environment()
    except StoreError as error:
        findings.append(Finding("Data folder", State.FAILS, str(error), "Correct the setting named in the message."))
        return Examination((*findings, *_tools()))
    findings.append(Finding("Data folder", State.WORKS, f"{store.home} (privacy level {store.privacy.value})"))
    log = _log(store)
    findings += [log.database, _spool(store.home), _gate(store.home, log.generator_id), _model(store.home)]
    findings += [*_promoted(store.home), log.drift]
    return Examination((*findings, *_tools()))


@dataclass(frozen=True, slots=True)
class _Log:
    """What the database says."""

    database: Finding
    drift: Finding
    generator_id: str = ""
    """Of the last weeks' last editor session; empty where there is none."""


def _log(store: StoreSettings) -> _Log:
    unknown = Finding("Drift", State.WORKS, "nothing was judged in the last weeks, so nothing is known")
    try:
        repository = Repository(store.database_url, touch=False)
        try:
            count = repository.count(Decision)
            generator_id = _last_generator(repository)
            drift = _drift(drifts_of(repository, datetime.now(UTC))) or unknown
        finally:
            repository.close()
    except LogMissing:
        return _Log(Finding("Database", State.WORKS, "no log yet: the first session makes it"), unknown)
    except LogOutdated as error:
        cure = "Start the server once (an editor does): it brings the log up to date."
        return _Log(Finding("Database", State.MISSING, str(error), cure), _untold(error))
    except StoreError as error:
        cure = "Nothing is lost meanwhile: records wait in the spool. Cure what the message says."
        return _Log(Finding("Database", State.FAILS, str(error), cure), _untold(error))
    return _Log(Finding("Database", State.WORKS, f"{count} decisions logged"), drift, generator_id)


def _untold(error: StoreError) -> Finding:
    return Finding("Drift", State.MISSING, f"cannot be told: {error}", "Cure what is said of the database.")


def _last_generator(repository: Repository) -> str:
    since = datetime.now(UTC) - LOOK_BACK
    sessions = deque(repository.stream(Session, origins=(Origin.EDITOR,), since=since), maxlen=1)
    return sessions[0].generator_id if sessions else ""


def _drift(found: Sequence[Drift]) -> Finding | None:
    """None where nothing was judged."""
    if not found:
        return None
    alarms = [drift.sentence() for drift in found if drift.alarm]
    if alarms:
        cure = "Run `gate-calibrate --promote` to fit the gate to what is kept now."
        return Finding("Drift", State.MISSING, f"ALARM. {' '.join(alarms)}", cure)
    return Finding("Drift", State.WORKS, found[-1].sentence())


def _spool(home: Path) -> Finding:
    waiting = sum(file.stat().st_size for file in (home / "spool").glob("*.jsonl"))
    damaged = len(list((home / "spool" / "damaged").glob("*")))
    if damaged:
        return Finding(
            "Spool", State.MISSING, f"{damaged} damaged file(s) were set aside", f"Look at {home / 'spool' / 'damaged'}."
        )
    return Finding(
        "Spool", State.WORKS, f"{waiting} bytes wait for the database" if waiting else "empty: all is in the database"
    )


def _gate(home: Path, generator_id: str) -> Finding:
    """`generator_id`: of the editor's last session; what was promoted since runs from the next request on."""
    try:
        newest = active(home, Kind.MODEL)
        generator_id = (generator_id or EMBEDDED.name) if newest is None else newest.id
        artifact = active_artifact(home)
        fit = fit_sentence(artifact, generator_id)
        foreign = generator_fit(artifact, generator_id) is Fit.FOREIGN
    except GeneratorError as error:
        return Finding("Gate", State.MISSING, f"cannot be told: {error}.", "Cure what is said of the promoted model.")
    except GateError as error:
        text = f"{error} The shipped gate decides meanwhile."
        return Finding("Gate", State.FAILS, text, "Run `gate-calibrate --rollback`.")
    text = f"artifact {artifact.id[:12]} of {artifact.created_at[:10]}, h = {artifact.h_bits:.2f} bits. {fit}"
    if foreign:
        cure = "Run `gate-calibrate --promote` once some days were logged with this generator."
        return Finding("Gate", State.MISSING, f"{text} The shipped gate decides meanwhile.", cure)
    return Finding("Gate", State.WORKS, text)


def _model(home: Path) -> Finding:
    try:
        path = find_model(home, "embedded")
        started_s = time.perf_counter()
        tokens = asyncio.run(_decode(path))
        seconds = time.perf_counter() - started_s
    except GeneratorError as error:
        return Finding("Embedded model", State.FAILS, str(error), "Run `coderl models install`.")
    return Finding("Embedded model", State.WORKS, f"{path.name}: loaded and decoded {tokens} tokens in {seconds:.2f} s")


def _promoted(home: Path) -> list[Finding]:
    """The active generators of this machine, where any was promoted; a model really decodes."""
    try:
        model, adapter = active(home, Kind.MODEL), active(home, Kind.ADAPTER)
        found = []
        if model is not None:
            tokens = asyncio.run(_decode(find_active(home)))
            trained = f", trained: {model.trained}" if model.trained else ""
            found.append(Finding("Promoted model", State.WORKS, f"{model.id}{trained}: decoded {tokens} tokens"))
        if adapter is not None:
            adapter_state = State.WORKS if adapter.works else State.FAILS
            cure = "" if adapter.works else "Run `coderl rollback`."
            found.append(Finding("Promoted adapter", adapter_state, f"{adapter.id} at {adapter.path}", cure))
    except GeneratorError as error:
        return [Finding("Promoted model", State.FAILS, str(error), "Run `coderl rollback`.")]
    return found


async def _decode(path: Path) -> int:
    model = backend("llamacpp", model_path=path)
    try:
        request = GenerationRequest(prompt="def add(a, b):\n    return", max_tokens=8, timeout_s=PROBE_TIMEOUT_S)
        return sum([1 async for _ in model.stream(request)])
    finally:
        await model.aclose()


def _tools() -> list[Finding]:
    return [_neovim(), *(_program(*row) for row in _PROGRAMS), _jail(), _gpu()]


_PROGRAMS = (
    (
        "VS Code",
        ("code", "code-server", "codium"),
        "--version",
        "Install it, or use another LSP client with inline completion.",
    ),
)


def _first_line(command: list[str]) -> str | None:
    """The first line a program prints about itself; None where it does not run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def _program(name: str, programs: tuple[str, ...], flag: str, cure: str) -> Finding:
    for program in programs:
        if shutil.which(program) is not None:
            line = _first_line([program, flag])
            if line is not None:
                return Finding(name, State.WORKS, f"{program} {line}")
    return Finding(name, State.MISSING, "not found on PATH", cure)


def _neovim() -> Finding:
    cure = "Neovim 0.12 or newer has inline completion built in; older ones do not."
    line = _first_line(["nvim", "--version"]) if shutil.which("nvim") else None
    found = re.match(r"NVIM v(\d+)\.(\d+)", line or "")
    if line is None or found is None:
        return Finding("Neovim", State.MISSING, "not found on PATH", cure)
    if (int(found[1]), int(found[2])) < NEOVIM_NEEDED:
        return Finding("Neovim", State.MISSING, f"{line} is too old", cure)
    return Finding("Neovim", State.WORKS, line)


def _jail() -> Finding:
    """Made and tried: a program that is installed and not allowed to do its work is none."""
    try:
        jail = open_jail()
    except JailUnavailable as error:
        return Finding("Jail", State.MISSING, "generated programs cannot be run in isolation", str(error))
    return Finding("Jail", State.WORKS, f"{jail.name}, {len(jail.guarantees(Limits()))} guarantees in force")


def _gpu() -> Finding:
    probe: Callable[[list[str]], str | None] = _first_line
    line = (
        probe(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]) if shutil.which("nvidia-smi") else None
    )
    if line is None:
        return Finding("GPU", State.MISSING, "none found", "None is needed: the embedded model runs on the CPU.")
    return Finding("GPU", State.WORKS, line)
