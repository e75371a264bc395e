"""`coderl demo`: the whole loop on this machine, for real, in a few minutes. Nothing in it is canned.

1. A simulated programmer types files of Python's standard library into the language server with the embedded model and the
   shipped gate. For half of what the gate would withhold a coin says "show it anyway", so that the log can answer what-if
   questions.
2. `gate-calibrate`'s job fits a gate on the log of the first half of the files.
3. `coderl replay`'s core re-decides the second half under four policies and says what each would have saved.
4. `coderl train --from-log` takes one tiny step on the first half, where torch is installed (`demo_training`).

Limits: the programmer is a model of a programmer (see `simulate`), there is one of them, and the sample is small: the intervals
are wide, and said.
"""

from __future__ import annotations

import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from coderl_gate.artifact import GateArtifact, default_artifact, save
from coderl_gate.calibrate import calibrate
from coderl_gate.costs import CostParameters
from coderl_gate.dataset import Selection, build
from coderl_gate.policy import Policy, Rule
from coderl_gate.replay import ReplayReport, replay
from coderl_generator.models import find_model
from coderl_store.home import default_database_url, home
from coderl_store.records import Origin, Privacy
from coderl_store.repository import LoggedRequest, Repository

from .demo_training import ABSENT, DemoStep, learn, missing
from .errors import InputError
from .simulate import Counters, SimulateOptions, SimulateReport, run
from .simulate.report import percentile

LEARN_FILES = ("textwrap.py", "heapq.py", "shlex.py", "dis.py", "graphlib.py", "netrc.py")
JUDGE_FILES = ("bisect.py", "cmd.py", "copy.py", "fnmatch.py", "glob.py", "sched.py")
EXPLORE = 0.5
"""Share of skips and of withheld suggestions that a coin turns into shown ones."""
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "always_show": "always show",
        "never_show": "never show",
        "default_gate": "shipped gate",
        "calibrated_gate": "calibrated gate",
    }
)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How big the demo is."""

    seed: int = 1
    max_requests: int = 40
    """Per file."""
    max_chars: int = 2000
    """Per file."""
    picture: Path = Path("coderl-demo.png")
    backend: str = "llamacpp"
    model: str = "embedded"
    script: Path | None = None
    learn_files: tuple[str, ...] = LEARN_FILES
    judge_files: tuple[str, ...] = JUDGE_FILES


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """What one policy would have done with the second half."""

    shown: int
    generated: int
    seconds_saved_per_1000_keystrokes: float
    low: float
    high: float
    acceptance: float | None
    ess: float
    verdict: str


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Counters of both halves, and the policies side by side on the second."""

    total: Counters
    records_lost: int | None
    policies: Mapping[str, PolicyFigures]
    requests_judged: int
    keystrokes_judged: int
    fitted_on: int
    gate: str
    picture: Path
    training: DemoStep
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        names = ("requests", "routes", "generated", "shown", "withheld", "accepted", "partially_accepted")
        latencies = self.total.latencies_ms
        return {
            **{name: getattr(self.total, name) for name in names},
            "records_lost": self.records_lost,
            "latency_ms": {f"p{round(100 * share)}": percentile(latencies, share) for share in (0.5, 0.95, 0.99)},
            "policies": {name: asdict(figures) for name, figures in self.policies.items()},
            "judged": {"requests": self.requests_judged, "keystrokes": self.keystrokes_judged},
            "calibrated": {"gate": self.gate, "decisions": self.fitted_on},
            "picture": str(self.picture),
            "training": self.training.to_json(),
            "warnings": list(self.warnings),
        }

    def render(self, console: Console) -> None:
        """A table that a newcomer understands in ten seconds."""
        from rich.table import Table

        table = Table(title="Is it worth the programmer's time?", title_justify="left")
        table.add_column("policy")
        for heading in ("generated", "shown", "kept", "seconds saved per 1000 keys"):
            table.add_column(heading, justify="right")
        best = max(self.policies, key=lambda name: self.policies[name].seconds_saved_per_1000_keystrokes)
        for name, figures in self.policies.items():
            kept = "–" if figures.acceptance is None else f"{figures.acceptance:.0%}"
            saved = f"{figures.seconds_saved_per_1000_keystrokes:+.1f}  [{figures.low:+.1f}, {figures.high:+.1f}]"
            style = "bold" if name == best else ""
            table.add_row(LABELS[name], str(figures.generated), str(figures.shown), kept, saved, style=style)
        console.print(table)
        latency = percentile(self.total.latencies_ms, 0.5)
        console.print(
            f"{self.requests_judged} requests over {self.keystrokes_judged} keystrokes of files the calibration had not seen; "
            f"in brackets 95 % intervals. Half of all answers came within {0 if latency is None else latency:.0f} ms; "
            f"{self.records_lost} log records were lost.",
            highlight=False,
        )
        for warning in self.warnings:
            console.print(f"• {warning}", highlight=False)
        console.print(f"Picture: {self.picture}", highlight=False, soft_wrap=True)
        self.training.render(console)


def run_demo(options: DemoOptions, console: Console) -> DemoReport:
    """Run the demo in a temporary data folder; progress goes to `console`. Raises the packages' own errors."""
    model = str(find_model(home(), options.model)) if options.backend == "llamacpp" else options.model
    with tempfile.TemporaryDirectory(prefix="coderl-demo-") as folder:
        base = Path(folder)
        console.print("[bold]1/4[/] A simulated programmer types twelve files of Python's standard library …", highlight=False)
        learned = _session(options, model, base / "learn", options.learn_files, options.seed, console)
        judged = _session(options, model, base / "judge", options.judge_files, options.seed + 1, console)
        console.print("[bold]2/4[/] Calibrating the gate on the first half of the log …", highlight=False)
        fit = calibrate(build(_requests(base / "learn"), Selection(frozenset({Origin.SIMULATED}))), {"source": "coderl demo"})
        save(fit.artifact, base / "gate")
        console.print("[bold]3/4[/] Replaying the second half under four policies …", highlight=False)
        requests = _requests(base / "judge")
        training = _training_step(options, model, base / "learn", console)
    keystrokes = judged.total.keystrokes_without
    reports = _replays(requests, fit.artifact, options.seed)
    total = Counters()
    for part in (learned, judged):
        total.add(part.total)
    lost = None if learned.records_lost is None or judged.records_lost is None else learned.records_lost + judged.records_lost
    report = DemoReport(
        total=total,
        records_lost=lost,
        policies={name: _figures(replayed, keystrokes) for name, replayed in reports.items()},
        requests_judged=next(iter(reports.values())).n,
        keystrokes_judged=keystrokes,
        fitted_on=len(fit.dataset),
        gate=f"{fit.stage1.kind} / {fit.stage2.kind}",
        picture=options.picture,
        training=training,
        warnings=tuple(dict.fromkeys((*learned.messages, *judged.messages))),
    )
    _draw(report, options.picture)
    return report


def _session(
    options: DemoOptions, model: str, folder: Path, names: Sequence[str], seed: int, console: Console
) -> SimulateReport:
    folder.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    files = tuple(library / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(f"This Python comes without the sources of its standard library ({', '.join(missing)}).")
    return run(
        SimulateOptions(
            files=files,
            seed=seed,
            max_requests=options.max_requests,
            max_chars=options.max_chars,
            backend=options.backend,
            model=model,
            script=options.script,
            epsilon_skip=EXPLORE,
            epsilon_withhold=EXPLORE,
            home=folder,
            privacy=Privacy.CODE.value,  # the files are public and the folder is thrown away
            settings={"explorePerHour": 1_000_000},
        ),
        console,
    )


def _training_step(options: DemoOptions, model: str, folder: Path, console: Console) -> DemoStep:
    if options.backend != "llamacpp":
        return DemoStep(absent=f"No training step: the generator {options.backend} has no weights here.")
    if missing():
        return DemoStep(absent=ABSENT)
    console.print("[bold]4/4[/] One training step on the first half of the log …", highlight=False)
    return learn(default_database_url(folder), options.picture.parent / "runs", model)


def _requests(folder: Path) -> list[LoggedRequest]:
    repository = Repository(default_database_url(folder))
    try:
        return list(repository.requests(origins=(Origin.SIMULATED,)))
    finally:
        repository.close()


def _replays(requests: Sequence[LoggedRequest], calibrated: GateArtifact, seed: int) -> dict[str, ReplayReport]:
    """All four with the same seconds: those of the simulated programmer's own cost model."""
    shipped = default_artifact()
    truth = CostParameters()

    def under(artifact: GateArtifact, rule: Rule) -> ReplayReport:
        return replay(requests, artifact, Policy(artifact.h_bits, rule=rule), truth=truth, seed=seed)

    return {
        "always_show": under(shipped, Rule.ALWAYS_SHOW),
        "never_show": under(shipped, Rule.NEVER_SHOW),
        "default_gate": under(shipped, Rule.ENTROPY),
        "calibrated_gate": under(calibrated, Rule.ENTROPY),
    }


def _figures(report: ReplayReport, keystrokes: int) -> PolicyFigures:
    scale = 1000 * report.n / keystrokes
    return PolicyFigures(
        shown=round(report.shown),
        generated=round(report.generated),
        seconds_saved_per_1000_keystrokes=report.seconds.estimate * scale,
        low=report.seconds.low * scale,
        high=report.seconds.high * scale,
        acceptance=report.acceptance,
        ess=report.ess,
        verdict=report.verdict,
    )


def _draw(report: DemoReport, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = list(report.policies)[::-1]
    values = [report.policies[name].seconds_saved_per_1000_keystrokes for name in names]
    errors = [
        [value - report.policies[name].low for name, value in zip(names, values, strict=True)],
        [report.policies[name].high - value for name, value in zip(names, values, strict=True)],
    ]
    labels = [f"{LABELS[name]}\n({report.policies[name].shown} shown)" for name in names]
    colours = ["#0072b2" if value >= 0 else "#d55e00" for value in values]
    axes.barh(labels, values, xerr=errors, color=colours, ecolor="#444444", capsize=3, height=0.6)
    axes.axvline(0, color="#222222", linewidth=1)
    axes.set(xlabel="seconds saved per 1000 keystrokes (negative: lost), with 95 % intervals")
    axes.set_title(f"{report.requests_judged} pauses in code the gate had not seen", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
