"""`gate-calibrate` as a user runs it: a real process, a real database, exit codes and sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from coderl_gate import cups
from coderl_gate.artifact import default_artifact, load, save
from coderl_gate.cli import main
from coderl_gate.gate import active_artifact, promote
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing
from coderl_store.home import default_database_url
from coderl_store.records import Origin, OutcomeKind, Record
from coderl_store.repository import LoggedRequest, Repository

SHOW_ALL = Policy(0.5, rule=Rule.ALWAYS_SHOW)
KEYS = {
    "users", "decisions", "stage1", "stage2", "net_seconds_per_suggestion", "model", "artifact", "promoted", "warnings",
    "provenance",
}  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a run left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def gate_calibrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process (starting one takes seconds); `test_as_a_process` runs it for real."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["gate-calibrate", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return Done(int(left.value.code or 0), output.out, output.err)

    return run


def fill(home: Path, requests: Iterable[LoggedRequest]) -> None:
    """Put requests into the home folder's database, as the server's log writer does."""
    home.mkdir(parents=True, exist_ok=True)
    records: dict[tuple[str, str], Record] = {}
    for request in requests:
        for record in (
            request.session,
            request.context,
            request.decision,
            request.suggestion,
            request.outcome,
            *request.survival,
        ):
            if record is not None:
                records[type(record).__name__, record.id] = record
    repository = Repository(default_database_url(home))
    repository.append(records.values())
    repository.close()


def world(users: int = 6, per_user: int = 40, **changes: object) -> list[LoggedRequest]:
    made = replace(World(users=users, requests_per_user=per_user), **changes)  # type: ignore[arg-type]  # fields by name
    return list(made.requests(knowing(), SHOW_ALL))


def test_as_a_process(own_home: Path, tmp_path: Path) -> None:
    fill(own_home, world(users=3, per_user=20))
    command = [str(Path(sys.executable).with_name("gate-calibrate")), "--json", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decisions"] == 60
    assert done.stderr == ""


def test_help_is_quick_to_start_and_names_everything(gate_calibrate: Run) -> None:
    done = gate_calibrate("--help")
    assert done.returncode == 0
    for option in ("--from-cups", "--database", "--include-simulated", "--out", "--promote", "--rollback", "--json"):
        assert option in done.stdout
    code = "import sys, coderl_gate.cli; print([m for m in ('numpy', 'sklearn', 'lightgbm', 'matplotlib') if m in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert heavy.stdout.strip() == "[]"


def test_a_log_becomes_a_gate_and_a_report(own_home: Path, tmp_path: Path, gate_calibrate: Run) -> None:
    fill(own_home, world())
    done = gate_calibrate("--json", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) >= KEYS
    assert (figures["users"], figures["decisions"], figures["promoted"]) == (6, 240, False)
    assert set(figures["net_seconds_per_suggestion"]) >= {"chars_per_s", "show_all", "gate", "oracle"}
    assert set(figures["model"]) == {"stage1", "stage2", "calibration"}
    for stage in ("stage1", "stage2"):
        assert set(figures[stage]) >= {"auc", "brier", "log_loss", "ece"}
    artifact = load(Path(figures["artifact"]))
    assert artifact.id == figures["artifact_id"]
    assert artifact.created_at.startswith("20")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["decisions"] == 240
    assert (tmp_path / "out" / "report.html").exists()
    assert active_artifact(own_home).id == default_artifact().id


def test_promote_and_roll_back(own_home: Path, gate_calibrate: Run) -> None:
    fill(own_home, world())
    figures = json.loads(gate_calibrate("--json", "--promote").stdout)
    assert figures["promoted"] is True
    assert figures["comparison"]["held_out"] is True
    assert active_artifact(own_home).id == figures["artifact_id"]
    back = gate_calibrate("--rollback", "--json")
    assert json.loads(back.stdout) == {"active": default_artifact().id}
    assert active_artifact(own_home).id == default_artifact().id
    nothing_left = gate_calibrate("--rollback")
    assert nothing_left.returncode == 1
    assert "nothing to go back to" in nothing_left.stderr


def test_a_worse_gate_is_refused_and_the_active_one_stays(own_home: Path, tmp_path: Path, gate_calibrate: Run) -> None:
    """The active gate knows the truth; forty decisions cannot beat it."""
    log = world(users=5, per_user=8)
    fill(own_home, log)
    knows = save(knowing(0.0), tmp_path / "knows")
    promote(own_home, tmp_path / "knows")
    done = gate_calibrate("--promote", "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("gate-calibrate: Not promoted: on 40 held-out suggestions")
    assert json.loads(done.stdout)["promoted"] is False
    assert active_artifact(own_home).id == knows.id


def test_a_damaged_active_gate_is_not_silently_replaced(own_home: Path, tmp_path: Path, gate_calibrate: Run) -> None:
    fill(own_home, world())
    saved = save(knowing(), tmp_path / "gate")
    promote(own_home, tmp_path / "gate")
    (own_home / "gate" / "artifacts" / saved.id / "artifact.json").write_text("{}")
    done = gate_calibrate("--promote")
    assert done.returncode == 1
    assert "cannot be compared with" in done.stderr
    assert "gate-calibrate --rollback" in done.stderr
    assert gate_calibrate("--rollback").returncode == 0
    assert gate_calibrate("--promote").returncode == 0


def test_the_table_says_on_which_rows_both_gates_were_compared(own_home: Path, gate_calibrate: Run) -> None:
    fill(own_home, world())
    first, second = (" ".join(gate_calibrate("--promote").stdout.split()) for _ in range(2))
    assert "Against the active gate, on 240 suggestions that neither was fitted on (held out): log loss 0." in first
    assert "Against the active gate, on 240 suggestions that both may have been fitted on (not held out): log loss 0." in second


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, gate_calibrate: Run) -> None:
    typo = tmp_path / "typo.db"
    done = gate_calibrate("--database", f"sqlite:///{typo}")
    assert done.returncode == 2
    assert f"There is no log at {typo}" in done.stderr
    assert not typo.exists()


def _rejected(requests: list[LoggedRequest]) -> list[LoggedRequest]:
    return [
        replace(r, outcome=replace(r.outcome, kind=OutcomeKind.DISMISSED, accepted_chars=0))
        for r in requests
        if r.outcome is not None
    ]


def _old_features(requests: list[LoggedRequest]) -> list[LoggedRequest]:
    return [replace(r, context=replace(r.context, feature_version=0)) for r in requests]


MISTAKES: dict[str, tuple[Callable[[], list[LoggedRequest]], str]] = {
    "an empty log": (list, "The log is empty"),
    "nothing kept": (lambda: _rejected(world(2, 20)), "0 kept and 40 rejected"),
    "only old rows": (lambda: _old_features(world(2, 20)), "40 of another feature version"),
    "only simulated rows": (lambda: world(2, 20, origin=Origin.SIMULATED), "--include-simulated"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_log_that_cannot_teach_is_one_sentence(mistake: str, own_home: Path, gate_calibrate: Run) -> None:
    make, sentence = MISTAKES[mistake]
    fill(own_home, make())
    done = gate_calibrate()
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from-cups", "."), "no events.jsonl"),
        (("--write-default",), "needs --from-cups"),
        (("--database", "mysql://nowhere/x"), "sqlite"),
        (("--budget-s", "-1"), "budget-s"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_wrong_input_exits_with_two(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate_calibrate: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    done = gate_calibrate(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_simulated_rows_when_asked_for(own_home: Path, gate_calibrate: Run) -> None:
    fill(own_home, world(origin=Origin.SIMULATED))
    figures = json.loads(gate_calibrate("--include-simulated", "--json").stdout)
    assert figures["decisions"] == 240
    assert any("simulated programmer" in warning for warning in figures["warnings"])


def test_a_solo_programmer_can_calibrate(own_home: Path, gate_calibrate: Run) -> None:
    fill(own_home, world(users=1, per_user=120))
    done = gate_calibrate()
    assert done.returncode == 0, done.stderr
    assert "one user only" in " ".join(done.stdout.split())


def test_a_period_of_the_log(own_home: Path, gate_calibrate: Run) -> None:
    log = world()
    fill(own_home, log)
    middle = log[120].decision.at.strftime("%Y-%m-%dT%H:%M:%S")
    first, second = (json.loads(gate_calibrate(option, middle, "--json").stdout) for option in ("--until", "--since"))
    assert (first["decisions"], second["decisions"]) == (120, 120)
    assert first["data_hash"] != second["data_hash"]


def test_other_origins_by_name(own_home: Path, gate_calibrate: Run) -> None:
    fill(own_home, world(origin=Origin.IMPORTED))
    missing = gate_calibrate()
    assert missing.returncode == 2
    assert "--origin imported" in missing.stderr
    unknown = gate_calibrate("--origin", "elsewhere")
    assert unknown.returncode == 2
    assert "--origin must be one of editor, simulated, imported, not elsewhere" in unknown.stderr
    figures = json.loads(gate_calibrate("--origin", "imported", "--json").stdout)
    assert (figures["decisions"], figures["provenance"]["origins"]) == (240, ["imported"])
    assert any("Imported sessions" in warning for warning in figures["warnings"])


@pytest.mark.slow
@pytest.mark.cups
def test_the_shipped_gate_is_what_its_command_makes(shared_data: Path, tmp_path: Path, gate_calibrate: Run) -> None:
    """The default artifact is `gate-calibrate --from-cups DIR`, not something anybody edited.

    Byte for byte on one machine; LightGBM's sums may differ in their last digits on another processor, so what is compared is
    what the gate says.
    """
    done = gate_calibrate("--from-cups", str(shared_data / "cups"), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    made, shipped = tmp_path / "out" / "artifact", Path(default_file()).parent
    assert sorted(file.name for file in made.iterdir()) == sorted(file.name for file in shipped.iterdir())
    again, default = load(made), default_artifact()
    assert (again.data_hash, again.created_at, again.provenance) == (default.data_hash, default.created_at, default.provenance)
    assert again.h_bits == pytest.approx(default.h_bits, abs=1e-6)
    assert asdict(again.costs) == pytest.approx(asdict(default.costs), rel=1e-6)
    for request in cups.read(shared_data / "cups").requests:
        assert request.suggestion is not None
        p1, p1_shipped = (gate.stage1.probability(request.context.features) for gate in (again, default))
        features = {**request.context.features, **request.suggestion.features, "p1": p1_shipped}
        assert p1 == pytest.approx(p1_shipped, abs=1e-6)
        assert again.stage2.probability(features) == pytest.approx(default.stage2.probability(features), abs=1e-6)
    figures = json.loads(done.stdout)
    assert (figures["users"], figures["decisions"]) == (14, 723)
    assert figures["stage1"]["auc"] > 0.64
    assert figures["stage2"]["auc"] > 0.74
    assert figures["stage2"]["brier"] < 0.19
    net = figures["net_seconds_per_suggestion"]
    assert net["show_all"] < net["gate"] < net["oracle"]
    assert figures["provenance"]["licence"] == "MIT"


def default_file() -> str:
    import coderl_gate.artifact

    return str(Path(coderl_gate.artifact.__file__).parent / "default" / "artifact.json")
