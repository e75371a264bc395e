"""The folder of a run: what is in it, that it is never written over, and what a kill leaves behind."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_store.clock import VirtualClock
from coderl_trainer.checkpoints import keep_best
from coderl_trainer.errors import EngineFailed, RunError
from coderl_trainer.metric_names import METRICS, NAME
from coderl_trainer.provenance import environment, git_state
from coderl_trainer.run_files import canonical, lines, writing
from coderl_trainer.run_reading import changed_files, chosen_samples, list_runs, read_run
from coderl_trainer.runs import RunFolder, SampleRow, is_written


def sample(text: str = "a + b", **changes: Any) -> SampleRow:
    values: dict[str, Any] = {"task_id": "t1", "prompt": "def f(a, b):\n    return ", "text": text, "reward": 1.0}
    return SampleRow(**{**values, **changes})


def trained(runs: Path, steps: int = 3) -> Path:
    """A run of so many steps that was let go of without an end, as a kill would."""
    folder = RunFolder.create(runs, "try", {"seed": 1}, clock=VirtualClock())
    for step in range(1, steps + 1):
        folder.record(step, {"reward": step / 10}, [sample(f"s{step}a"), sample(f"s{step}b", advantage=0.5)])
    folder.close()
    return folder.path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- making ------------------------------------------------------------------------------------------------------------------


def test_a_new_folder_is_called_by_its_time_and_holds_where_it_comes_from(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "runs", "grpo-small", {"b": 1, "a": Path("x")}, clock=VirtualClock(0.0)) as folder:
        assert folder.path == tmp_path / "runs" / "19700101T000000Z-grpo-small"
        assert folder.config == {"a": "x", "b": 1}
        assert folder.last_step is None
    found = json.loads((folder.path / "environment.json").read_text())
    assert found["started"] == "1970-01-01T00:00:00+00:00"
    assert found["packages"]["numpy"] == np.__version__
    assert set(json.loads((folder.path / "git.json").read_text())) in ({"commit", "dirty", "changed"}, {"absent"})


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    clock = VirtualClock(0.0)
    made = [RunFolder.create(tmp_path, "again", {}, clock=clock) for _ in range(3)]
    assert [folder.path.name for folder in made] == [f"19700101T000000Z-again{end}" for end in ("", "-2", "-3")]
    for folder in made:
        folder.close()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "ä", "x" * 65, "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="must be called by"):
        RunFolder.create(tmp_path, name, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "where"), [({"a": [1, math.nan]}, r"config\.a\[1\]"), ({"a": {"b": object()}}, r"config\.a\.b")]
)
def test_a_configuration_that_a_file_cannot_hold_is_refused_before_anything_is_made(
    tmp_path: Path, config: dict[str, Any], where: str
) -> None:
    with pytest.raises(RunError, match=where):
        RunFolder.create(tmp_path / "runs", "x", config)
    assert not (tmp_path / "runs").exists()


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="No folder for the run can be made"):
        RunFolder.create(tmp_path / "file" / "runs", "x", {})


class Loss(StrEnum):
    GRPO = "grpo"


@dataclass(frozen=True)
class Settings:
    loss: Loss
    betas: tuple[float, float]
    seeds: frozenset[int]


def test_equal_settings_give_equal_bytes() -> None:
    one = canonical({"x": Settings(Loss.GRPO, (0.9, 0.95), frozenset({3, 1})), "name": "ä"})
    assert one == canonical({"name": "ä", "x": {"betas": [0.9, 0.95], "seeds": [1, 3], "loss": "grpo"}})
    assert json.loads(one)["x"]["loss"] == "grpo"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(config=st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_what_is_written_canonically_is_read_back(config: dict[str, Any]) -> None:
    assert json.loads(canonical(config)) == config
    assert canonical(dict(reversed(config.items()))) == canonical(config)


# -- where it was made -------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True).stdout


def test_git_state_of_a_checkout(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    assert "absent" in git_state(file)  # not committed: the checkout is somebody else's
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert git_state(file) == {"commit": commit, "dirty": False, "changed": []}
    (tmp_path / "other.txt").write_text("not committed, not code")
    assert git_state(file)["dirty"] is False
    file.write_text("x = 2\n")
    assert git_state(file) == {"commit": commit, "dirty": True, "changed": ["code.py"]}


def test_git_state_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not from a checkout" in git_state(tmp_path / "code.py")["absent"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path / "code.py") == {"absent": "git is not installed"}


def test_the_environment_is_told_without_importing_anything_heavy() -> None:
    code = "import sys; from coderl_trainer.provenance import environment; environment()\n"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["False", "False"]
    assert environment()["cores"] == os.cpu_count()


# -- steps -------------------------------------------------------------------------------------------------------------------


def test_a_step_is_a_row_of_metrics_and_its_samples(tmp_path: Path) -> None:
    clock = VirtualClock()
    with RunFolder.create(tmp_path, "try", {}, clock=clock) as folder:
        clock.advance_to(clock.now_s() + 2.5)
        row = folder.record(
            1,
            {"reward": np.float32(0.5), "kl": None, "rewards/tests/mean": 1, "loss": math.nan, "grad_norm": math.inf},
            [sample("x\ud800", rewards={"tests": 1.0, "style": None}, group=3, skipped="all_pass")],
        )
        assert folder.last_step == 1
    assert row == rows(folder.path / "metrics.jsonl")[0]
    assert row == {
        "step": 1, "time_s": 2.5, "reward": 0.5, "kl": None, "rewards/tests/mean": 1,
        "loss": None, "grad_norm": None, "not_finite": ["loss", "grad_norm"],
    }  # fmt: skip
    assert rows(folder.path / "samples.jsonl") == [
        {
            "step": 1, "group": 3, "task_id": "t1", "prompt": "def f(a, b):\n    return ", "text": "x\ud800",
            "rewards": {"tests": 1.0, "style": None}, "reward": 1.0, "advantage": None, "skipped": "all_pass",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"step": 1.0}, "cannot be called 'step'"),
        ({"Reward!": 1.0}, "cannot be called 'Reward!'"),
        ({"reward": "high"}, "reward is a str"),
        ({"reward": [1.0]}, "reward is a list"),
    ],
)
def test_what_is_no_metric_is_refused_and_nothing_written(tmp_path: Path, metrics: dict[str, Any], words: str) -> None:
    with RunFolder.create(tmp_path, "try", {}) as folder:
        with pytest.raises(RunError, match=words):
            folder.record(1, metrics, [sample()])
        assert (folder.path / "samples.jsonl").read_bytes() == b""
        folder.record(1, {"reward": 1.0})


def test_steps_go_up(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "try", {}) as folder:
        folder.record(0, {"heldout/solve": 0.25})
        folder.record(5, {})
        with pytest.raises(RunError, match="Step 5 cannot follow step 5"):
            folder.record(5, {})


def test_every_named_metric_may_be_written() -> None:
    assert all(NAME.fullmatch(name) and metric.doc for name, metric in METRICS.items())


def test_a_full_disk_is_said_and_the_step_taken_back(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; it holds for a child process only."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from coderl_trainer.checkpoints import keep_best
from coderl_trainer.errors import EngineFailed, RunError
from coderl_trainer.runs import RunFolder, SampleRow
folder = RunFolder.create(Path({str(tmp_path)!r}), "full", {{}})
folder.record(1, {{"reward": 1.0}}, [SampleRow("t", "p", "x")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))
try:
    folder.record(2, {{"reward": 1.0}}, [SampleRow("t", "p", "x" * 2000)])
except RunError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, ({resource.RLIM_INFINITY}, {resource.RLIM_INFINITY}))
folder.record(2, {{"reward": 2.0}}, [SampleRow("t", "p", "y")])
folder.finish()
print(folder.path)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    said, path = run.stdout.splitlines()
    assert "samples.jsonl cannot be written: File too large." in said
    assert [row["text"] for row in rows(Path(path) / "samples.jsonl")] == ["x", "y"]
    assert [row["reward"] for row in read_run(Path(path)).rows] == [1.0, 2.0]


# -- the end -----------------------------------------------------------------------------------------------------------------


def test_the_manifest_comes_last_and_lists_every_file(tmp_path: Path) -> None:
    clock = VirtualClock()
    with RunFolder.create(tmp_path, "try", {}, clock=clock) as folder:
        folder.record(1, {"reward": 0.1})
        folder.record(2, {"reward": 0.4})
        (folder.path / "checkpoints" / "2").mkdir(parents=True)
        (folder.path / "checkpoints" / "2" / "adapter.bin").write_bytes(b"weights")
        (folder.path / "plots").mkdir()
        (folder.path / "plots" / "reward.png").write_bytes(b"made anew at any time")
        (folder.path / "report.html").write_text("made anew at any time")
        assert not (folder.path / "manifest.json").exists()
        clock.advance_to(clock.now_s() + 60)
        said = folder.finish(best={"step": 2, "reward": 0.4}, results={"heldout": {"before": 0.2, "after": 0.3}})
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert manifest == said
    assert (manifest["status"], manifest["steps"], manifest["last_step"], manifest["time_s"]) == ("finished", 2, 2, 60.0)
    assert manifest["best"] == {"step": 2, "reward": 0.4}
    assert manifest["results"] == {"heldout": {"before": 0.2, "after": 0.3}}
    files = {entry["path"]: entry for entry in manifest["files"]}
    assert list(files) == [
        "checkpoints/2/adapter.bin", "config.json", "environment.json", "git.json", "metrics.jsonl", "samples.jsonl",
    ]  # fmt: skip
    assert files["checkpoints/2/adapter.bin"]["sha256"] == sha256(b"weights").hexdigest()
    with pytest.raises(RunError, match="is closed"):
        folder.record(3, {})


def test_files_that_changed_after_the_end_are_named(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "try", {}) as folder:
        folder.record(1, {"reward": 0.1})
        folder.finish()
    assert changed_files(read_run(folder.path)) == []
    (folder.path / "samples.jsonl").unlink()
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "reward": 1.0}\n')
    assert changed_files(read_run(folder.path)) == ["metrics.jsonl", "samples.jsonl"]


@pytest.mark.parametrize(
    ("error", "words"), [(ValueError("the grader died"), "ValueError: the grader died"), (KeyboardInterrupt(), "interrupted")]
)
def test_what_escapes_is_written_down(tmp_path: Path, error: BaseException, words: str) -> None:
    folder = RunFolder.create(tmp_path, "try", {})

    def train() -> None:
        with folder:
            folder.record(1, {})
            raise error

    with pytest.raises(type(error)):
        train()
    run = read_run(folder.path)
    assert run.manifest is not None
    assert (run.status, run.manifest["reason"], run.manifest["steps"]) == ("failed", words, 1)


# -- going on ----------------------------------------------------------------------------------------------------------------


def test_going_on_cuts_both_files_back(tmp_path: Path) -> None:
    path = trained(tmp_path, 3)
    with (path / "metrics.jsonl").open("a") as metrics, (path / "samples.jsonl").open("a") as samples:
        samples.write('{"step": 4, "text": "whole, but its step was not complete"}\n{"step": 4, "te')
        metrics.write('{"step": 4, "rew')
    with RunFolder.reopen(path, 2) as folder:
        assert folder.last_step == 2
        folder.record(3, {"reward": 0.9}, [sample("anew")])
        folder.finish()
    assert [(row["step"], row["reward"]) for row in rows(path / "metrics.jsonl")] == [(1, 0.1), (2, 0.2), (3, 0.9)]
    assert [row["text"] for row in rows(path / "samples.jsonl")] == ["s1a", "s1b", "s2a", "s2b", "anew"]
    assert [row["step"] for row in rows(path / "resumed.jsonl")] == [2]
    run = read_run(path)
    assert (run.status, len(run.resumed)) == ("finished", 1)


def test_going_on_from_the_beginning_and_after_an_end(tmp_path: Path) -> None:
    path = trained(tmp_path, 2)
    with RunFolder.reopen(path, 2) as folder:
        folder.fail("out of memory")
    with RunFolder.reopen(path, 0) as folder:
        assert not (path / "manifest.json").exists()
        assert folder.last_step is None
    assert (path / "metrics.jsonl").read_bytes() == (path / "samples.jsonl").read_bytes() == b""
    assert [row["step"] for row in rows(path / "resumed.jsonl")] == [2, 0]


def test_the_time_goes_on_too(tmp_path: Path) -> None:
    clock = VirtualClock()
    folder = RunFolder.create(tmp_path, "try", {}, clock=clock)
    clock.advance_to(clock.now_s() + 10)
    folder.record(1, {})
    clock.advance_to(clock.now_s() + 5)
    folder.record(2, {})
    folder.close()
    later = VirtualClock(clock.now_s() + 86_400)
    with RunFolder.reopen(folder.path, 1, clock=later) as folder:
        later.advance_to(later.now_s() + 3)
        assert folder.record(2, {})["time_s"] == 13.0


@pytest.mark.parametrize("step", [-1, 4])
def test_a_step_that_was_never_complete_is_refused_and_nothing_cut(tmp_path: Path, step: int) -> None:
    path = trained(tmp_path, 3)
    before = (path / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match="its last complete step is 3"):
        RunFolder.reopen(path, step)
    assert (path / "metrics.jsonl").read_bytes() == before


def test_a_damaged_file_is_named_with_its_line_and_not_cut(tmp_path: Path) -> None:
    path = trained(tmp_path, 3)
    text = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text(text[0] + "{broken\n" + text[2])
    with pytest.raises(RunError, match=r"metrics\.jsonl line 2 is no JSON"):
        RunFolder.reopen(path, 1)
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 3
    (path / "metrics.jsonl").write_text(text[1] + text[0])
    with pytest.raises(RunError, match="line 2 has step 1 after step 2"):
        read_run(path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        RunFolder.reopen(tmp_path, 0)
    assert not list(tmp_path.iterdir())


@settings(max_examples=25)
@given(steps=st.integers(0, 4), cut=st.integers(0, 10_000), to=st.integers(0, 4))
def test_wherever_a_kill_cuts_the_files_what_was_complete_is_found(
    tmp_path_factory: pytest.TempPathFactory, steps: int, cut: int, to: int
) -> None:
    """Samples of a step are safe before its metrics: so metrics are cut anywhere, and samples hold all that they need."""
    path = trained(tmp_path_factory.mktemp("runs"), steps)
    metrics = path / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[: cut % (len(whole) + 1)])
    complete = metrics.read_bytes().count(b"\n")
    if to > complete:
        with pytest.raises(RunError):
            RunFolder.reopen(path, to)
        return
    with RunFolder.reopen(path, to) as folder:
        assert folder.last_step == (to or None)
    assert [row["step"] for row, _ in lines(metrics)] == list(range(1, to + 1))
    assert [row["step"] for row, _ in lines(path / "samples.jsonl")] == [step for step in range(1, to + 1) for _ in "ab"]


WRITER = """
import sys
from pathlib import Path
from coderl_trainer.runs import RunFolder, SampleRow
folder = RunFolder.create(Path(sys.argv[1]), "killed", {})
step = 0
while True:
    step += 1
    folder.record(step, {"reward": 0.5}, [SampleRow("t", "p" * 500, "x" * 500)] * 3)
    print(folder.path, step, flush=True)
"""


def test_a_run_killed_in_the_middle_is_seen_and_gone_on_with(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline().split() for _ in range(5)]
        path = Path(said[-1][0])
        assert is_written(path)
        assert [run.status for run in list_runs(tmp_path)] == ["running"]
        with pytest.raises(RunError, match="is being written by another process"):
            RunFolder.reopen(path, 1)
        writer.send_signal(signal.SIGKILL)
        told = [line.split() for line in writer.stdout if line.endswith("\n")]  # a full pipe cuts the last one
    acknowledged = int((told or said)[-1][1])
    found = list_runs(tmp_path)[0]
    assert found.status == "killed"
    assert found.steps >= acknowledged
    with RunFolder.reopen(path, acknowledged) as folder:
        folder.finish()
    assert list_runs(tmp_path)[0].status == "finished"
    assert len(rows(path / "samples.jsonl")) == 3 * acknowledged


def test_a_reader_that_looks_whether_a_run_is_alive_does_not_keep_it_from_going_on(tmp_path: Path) -> None:
    path = trained(tmp_path, 1)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_written(path)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for _ in range(20):
            RunFolder.reopen(path, 1).close()
    finally:
        stop.set()
        reader.join(10)


# -- reading -----------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_oldest_first_damaged_ones_too(tmp_path: Path) -> None:
    clock = VirtualClock(0.0)
    for name, step in (("one", 1), ("two", 2)):
        clock.advance_to(clock.now_s() + 1000)
        with RunFolder.create(tmp_path, name, {}, clock=clock) as folder:
            folder.record(step, {"reward": step / 4, "solve/visible": 0.5, "solve/hidden": None})
            folder.finish(best={"step": step})
    (folder.path / "metrics.jsonl").write_text('{"step": "one"}\n{"step": 2}\n')
    (tmp_path / "not-a-run").mkdir()
    one, two = list_runs(tmp_path)
    assert one.to_json() == {
        "run": "19700101T001640Z-one", "path": str(one.path), "status": "finished", "steps": 1,
        "started": "1970-01-01T00:16:40+00:00", "time_s": 0.0, "reward": 0.25,
        "solve": {"visible": 0.5, "hidden": None}, "best": {"step": 1}, "reason": "",
    }  # fmt: skip
    assert two.status == "damaged"
    assert "metrics.jsonl line 1" in two.reason
    assert list_runs(one.path) == [one]
    with pytest.raises(RunError, match="cannot be read"):
        list_runs(tmp_path / "nowhere")


def test_a_column_leaves_out_the_steps_without_it(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "try", {}) as folder:
        for step, value in ((1, 0.5), (2, None), (3, math.nan), (4, 2)):
            folder.record(step, {"kl": value})
    assert read_run(folder.path).column("kl") == ([1, 4], [0.5, 2.0])
    assert read_run(folder.path).column("loss") == ([], [])


def test_chosen_samples_show_beginning_end_and_every_reason_to_skip(tmp_path: Path) -> None:
    make: Callable[..., SampleRow] = lambda text, reward, skipped="": sample(text, reward=reward, skipped=skipped)  # noqa: E731
    with RunFolder.create(tmp_path, "try", {}) as folder:
        folder.record(1, {}, [make(f"first{i}", i / 10) for i in range(6)])
        folder.record(2, {}, [make("easy", 1.0, "all_pass"), make("broken", None, "ungraded")])
        folder.record(3, {}, [make("last0", 0.0), make("last1", 1.0)])
    texts = [row["text"] for row in chosen_samples(folder.path)]
    assert texts == ["first5", "first4", "first1", "first0", "last1", "last0", "easy", "broken"]


def test_what_a_disk_refuses_is_a_sentence_and_what_an_engine_says_stays(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="out cannot be written: No space left on device"), writing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(EngineFailed, match="gone"), writing(tmp_path / "out"):
        raise EngineFailed("gone")
    with pytest.raises(RunError, match="best cannot be written: No such file"):
        keep_best(tmp_path / "absent", lambda folder: folder.mkdir())
