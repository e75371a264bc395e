"""Whole simulated sessions: a real server process, a real pipe, a real database, a generator that is scripted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.costs import CostParameters
from coderl_server.errors import InputError
from coderl_server.simulate import SimulateOptions, SimulateReport, run
from coderl_server.simulate.audit import Audit
from coderl_store.codec import encode
from coderl_store.errors import DatabaseError
from coderl_store.records import Action, Decision, Origin, Outcome, OutcomeKind, Session, Survival
from coderl_store.repository import Repository

Oracle = Callable[..., Path]


@pytest.fixture
def simulate(tmp_path: Path, source: Path, oracle: Oracle, small_gate: Path) -> Callable[..., SimulateReport]:
    """Runs a session in a home folder of its own; `home` and every other option can be given."""
    homes = iter(range(100))

    def session(error_rate: float = 0.1, **options: Any) -> SimulateReport:
        chosen = {
            "files": (source,),
            "seed": 1,
            "backend": "scripted",
            "script": oracle(error_rate),
            "gate": small_gate,
            "rule": "always_show",
            "home": tmp_path / f"home-{next(homes)}",
            "epsilon_skip": 0.0,
            "epsilon_withhold": 0.0,
            **options,
        }
        return run(SimulateOptions(**chosen))

    return session


Simulate = Callable[..., SimulateReport]


def log_of(home: Path) -> Repository:
    return Repository(f"sqlite:///{home / 'coderl.db'}")


def test_the_same_seed_gives_the_same_session_and_another_seed_another(simulate: Simulate) -> None:
    first, again, other = (simulate(seed=seed, max_chars=150) for seed in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest
    volatile = {
        "latency_ms",
        "records_acknowledged",
        "files",
    }  # how fast disk and process were, and the same once more per file
    kept = [{key: value for key, value in report.to_json().items() if key not in volatile} for report in (first, again)]
    assert kept[0] == kept[1]


def test_counters_agree_with_the_log(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    report = simulate(rule="entropy", home=home)
    total, repository = report.total, log_of(home)
    (session,) = repository.stream(Session)
    assert (session.origin, session.seed) == (Origin.SIMULATED, 1)
    decisions = list(repository.stream(Decision))
    assert total.requests == len(decisions)
    assert total.routes == {"skip": 0, "draft": 0, "full": 0, **Counter(str(decision.route) for decision in decisions)}
    assert min(total.routes.values()) > 0  # all three ways were gone
    assert total.shown == sum(decision.action == "show" for decision in decisions) == total.seen + total.late
    assert total.withheld == len(decisions) - total.shown
    assert total.generated == sum(decision.timings.generate_ms is not None for decision in decisions)
    kinds = Counter(outcome.kind for outcome in repository.stream(Outcome))
    assert kinds[OutcomeKind.ACCEPTED] == total.accepted > 0
    assert kinds[OutcomeKind.DISMISSED] == total.dismissed
    assert sum(kinds.values()) == total.shown
    assert (report.records_lost, report.records_acknowledged > len(decisions)) == (0, True)
    assert list(repository.requests()) == []  # simulated rows stay out of what is learned from, unless asked for
    repository.close()


def test_a_perfect_generator_saves_keys_and_seconds(simulate: Simulate, source: Path, oracle: Oracle) -> None:
    # Without empty lines: a suggestion for the line behind an empty one is not what is typed next, however right it is.
    text = source.read_text(encoding="utf-8").replace("\n\n\n", "\n")
    source.write_text(text, encoding="utf-8")
    total = simulate(script=oracle(0.0, text)).total
    assert total.wrong_suggestions_seen == 0
    assert total.accepted > 0
    assert total.keystrokes_saved > 0
    assert total.seconds_saved > 0
    assert total.keystrokes < total.keystrokes_without == len(text)


def test_wrong_suggestions_cost_the_time_it_takes_to_read_them(simulate: Simulate, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"default": {"text": "pass  # nothing like it"}}', encoding="utf-8")
    costs = CostParameters(verify_base_s=1.0, verify_s_per_char=0.0)
    total = simulate(script=wrong, costs=costs, dismiss_probability=0.0).total
    assert total.seen == total.wrong_suggestions_seen > 0
    assert total.seconds_saved == pytest.approx(-1.0 * total.seen)
    assert total.keystrokes == total.keystrokes_without


def test_a_part_of_a_suggestion_is_taken_and_reported(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    total = simulate(0.25, home=home, seed=3).total
    assert total.partially_accepted > 0
    repository = log_of(home)
    # Parts of one idea, taken one after the other, are one outcome of the last time it was served.
    kept = [outcome for outcome in repository.stream(Outcome) if outcome.kept]
    assert OutcomeKind.PARTIALLY_ACCEPTED in {outcome.kind for outcome in kept}
    assert sum(outcome.accepted_chars for outcome in kept) == total.keystrokes_saved + total.accepted + total.partially_accepted
    repository.close()


def test_never_show_saves_and_costs_nothing(simulate: Simulate) -> None:
    total = simulate(rule="never_show").total
    assert (total.seen, total.keystrokes_saved, total.seconds_saved) == (0, 0, 0.0)
    assert total.keystrokes == total.keystrokes_without
    assert total.routes["skip"] == total.requests > 0


def test_options_bound_the_session(simulate: Simulate, source: Path) -> None:
    report = simulate(files=(source, source), max_requests=3, max_chars=120)
    assert [part.counters.requests <= 3 and part.counters.keystrokes_without <= 120 for part in report.files] == [True, True]
    assert report.total.requests == sum(part.counters.requests for part in report.files)


def test_a_generator_slower_than_the_pause_is_withdrawn(simulate: Simulate, oracle: Oracle) -> None:
    total = simulate(script=oracle(0.0, first_delay_ms=60_000.0)).total
    assert total.superseded == total.requests > 0
    assert total.seen == 0
    assert total.keystrokes == total.keystrokes_without


def test_suggestions_behind_the_pause_are_never_seen(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    total = simulate(latency_ms=60_000.0, home=home).total
    assert total.late == total.shown > 0
    assert total.seen == 0
    assert total.seconds_saved == 0


def test_survival_is_complete_where_the_document_stays_open(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    total = simulate(0.0, home=home, keep_open=True, max_requests=6).total
    repository = log_of(home)
    ages = Counter(survival.after_s for survival in repository.stream(Survival))
    assert ages == dict.fromkeys((15.0, 30.0, 120.0, 300.0, 600.0), total.accepted + total.partially_accepted)
    repository.close()


def test_nothing_is_recorded_where_privacy_is_off(simulate: Simulate, tmp_path: Path) -> None:
    report = simulate(privacy="off", home=tmp_path / "home")
    assert (report.records_acknowledged, report.records_lost) == (0, 0)
    assert report.total.requests == sum(report.total.routes.values()) > 0


def test_sessions_of_one_seed_and_other_options_stay_apart_in_one_log(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    reports = [simulate(home=home, max_chars=60, rule=rule) for rule in ("never_show", "always_show")]
    repository = log_of(home)
    requests = list(repository.requests(origins=(Origin.SIMULATED,)))
    repository.close()
    assert [report.records_lost for report in reports] == [0, 0]
    assert [report.messages for report in reports] == [(), ()]
    assert len({request.session.id for request in requests}) == 2
    assert len(requests) == sum(report.total.requests for report in reports)
    shown = [request for request in requests if request.decision.action is Action.SHOW]
    assert len(shown) == reports[1].total.shown > 0
    assert all((request.outcome is not None) == (request.decision.action is Action.SHOW) for request in requests)


def test_the_very_same_session_is_not_typed_into_one_log_twice(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    report = simulate(home=home, max_chars=60)
    with pytest.raises(InputError, match="already in the log"):
        simulate(home=home, max_chars=60)
    repository = log_of(home)
    assert repository.count(Decision) == report.total.requests
    repository.close()


def test_what_another_run_wrote_under_this_sessions_id_counts_as_lost(simulate: Simulate, tmp_path: Path) -> None:
    home = tmp_path / "home"
    simulate(home=home, max_chars=60)
    repository = log_of(home)
    decided = {decision.id: encode(decision) for decision in repository.stream(Decision)}
    (session,) = repository.stream(Session)
    repository.close()
    url = f"sqlite:///{home / 'coderl.db'}"
    assert Audit.read(url, session.id, list(decided), decided).lost == 0
    other = {**decided, next(iter(decided)): "another decision"}
    assert Audit.read(url, session.id, list(decided), other).lost == 1


def test_a_broken_gate_is_a_sentence(simulate: Simulate, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gate artifact"):
        simulate(gate=tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "code"), [("source.py", 0), ("absent.py", 2)])
def test_the_command_prints_json_and_leaves_with_its_code(
    tmp_path: Path, source: Path, oracle: Oracle, small_gate: Path, name: str, code: int
) -> None:
    command = [sys.executable, "-m", "coderl_server", "simulate", str(tmp_path / name), "--backend", "scripted", "--json"]
    command += [
        "--script",
        str(oracle(0.1)),
        "--gate",
        str(small_gate),
        "--home",
        str(tmp_path / "home"),
        "--max-requests",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    if code == 0:
        assert json.loads(done.stdout)["requests"] <= 3
    else:
        assert "cannot be read" in done.stderr
        assert "Traceback" not in done.stderr


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _decisions(home: Path) -> int:
    if not (home / "coderl.db").exists():
        return 0
    repository = log_of(home)
    try:
        return repository.count(Decision)
    except DatabaseError:  # the server is making it just now
        return 0
    finally:
        repository.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
def _heed_the_keys() -> None:
    """A job in the background of a script ignores Ctrl-C, and so do its children: the test must not depend on who runs it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_session_ends_with_one_line_and_ends_its_server(
    tmp_path: Path, oracle: Oracle, small_gate: Path
) -> None:
    endless, home = tmp_path / "endless.py", tmp_path / "home"
    endless.write_text("value = function(argument)\n" * 2000, encoding="utf-8")
    command = [sys.executable, "-m", "coderl_server", "simulate", str(endless), "--backend", "scripted", "--script"]
    command += [str(oracle(0.1)), "--gate", str(small_gate), "--home", str(home)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, preexec_fn=_heed_the_keys
    )
    give_up_s = time.monotonic() + 60
    while not _decisions(home) and time.monotonic() < give_up_s and process.poll() is None:
        time.sleep(0.05)
    servers = _children(process.pid)
    try:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.strip().splitlines()[-1] == "coderl: interrupted."
    assert "Traceback" not in err
    assert "InvalidStateError" not in err
    assert len(servers) == 1
    assert not Path(f"/proc/{servers[0]}").exists()


@pytest.mark.model
@pytest.mark.slow
def test_the_same_seed_gives_the_same_session_with_the_embedded_model(
    simulate: Simulate, embedded_model: Path, tmp_path: Path
) -> None:
    # Bodies that repeat: what was generated and thrown away comes again, which is where a prompt cache could show.
    body = "".join(f"        self.option_{n} = option_{n}\n" for n in ("width", "height", "depth", "colour"))
    file = tmp_path / "options.py"
    file.write_text(f"class Options:\n    def __init__(self, option_width, option_height):\n{body}", encoding="utf-8")
    model = {"backend": "llamacpp", "model": str(embedded_model), "script": None, "files": (file,), "seed": 3}
    first, again = (simulate(**model) for _ in range(2))
    assert first.total.generated > 3
    assert first.digest == again.digest
