"""What `coderl train` makes of its options, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coderl_server.errors import InputError
from coderl_server.training import TrainOptions, database_of, log_source, resolved, train, usable
from coderl_trainer.judge import open_judge
from coderl_trainer.loop import Parts
from coderl_trainer.recipe import LogSource, Recipe
from coderl_trainer.runs import RunFolder
from coderl_trainer.types import Task, TaskKind

REMOTE = "postgresql+psycopg://me:secret@db.example/coderl"


def test_a_run_keeps_its_log_without_the_password(tmp_path: Path) -> None:
    source = log_source(TrainOptions(from_log=True, database=REMOTE, include_simulated=True, gate=tmp_path), None)
    assert source == LogSource(REMOTE.replace("secret", "***"), ("editor", "simulated"), str(tmp_path.resolve()))


def test_a_password_among_the_parameters_is_not_kept_either(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me@db.example/coderl?password=secret&sslmode=require"
    noted = log_source(TrainOptions(from_log=True, database=url), None)
    assert "secret" not in noted.database
    assert "sslmode=require" in noted.database
    with pytest.raises(InputError, match="--database"):
        database_of(noted, None)
    monkeypatch.setenv("CODERL_DATABASE_URL", url)
    assert database_of(noted, None) == url


def test_the_command_line_goes_over_the_recipe_and_the_installation_is_the_default(own_home: Path) -> None:
    given = LogSource("sqlite:////data/log.db", ("imported",), "gate")
    assert log_source(TrainOptions(from_log=True), given) == given
    both = log_source(TrainOptions(from_log=True, include_simulated=True), given)
    assert both.origins == ("imported", "simulated")
    named = log_source(TrainOptions(from_log=True, database="sqlite:////data/other.db"), given)
    assert named.database == "sqlite:////data/other.db"
    assert log_source(TrainOptions(from_log=True), None).database == f"sqlite:///{own_home.resolve() / 'coderl.db'}"
    assert resolved(TrainOptions()).log is None
    assert resolved(TrainOptions(from_log=True)).log is not None


def test_a_log_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = LogSource(REMOTE.replace("secret", "***"))
    with pytest.raises(InputError, match=r"needs its password, .* --database"):
        database_of(noted, None)
    assert database_of(noted, "sqlite:////moved/log.db") == "sqlite:////moved/log.db"
    assert database_of(LogSource("sqlite:////data/log.db"), None) == "sqlite:////data/log.db"
    monkeypatch.setenv("CODERL_DATABASE_URL", REMOTE)
    assert database_of(noted, None) == REMOTE


def test_what_cannot_be_gone_on_with_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "x", Recipe()) as run:
        run.record(0, {})
    with pytest.raises(InputError, match="learns from tasks, not from the log"):
        train(TrainOptions(resume=run.path, from_log=True))
    with pytest.raises(InputError, match="holds no checkpoint"):
        train(TrainOptions(resume=run.path))
    with pytest.raises(InputError, match="nothing"):
        train(TrainOptions(resume=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (TrainOptions(recipe=Path("small")), "a recipe"),
        (TrainOptions(changes=("grpo.steps=9",)), "--set"),
        (TrainOptions(tasks=("shipped",)), "--tasks"),
        (TrainOptions(engine="trl"), "--engine"),
        (TrainOptions(model="embedded"), "--model"),
        (TrainOptions(name="other"), "--name"),
        (TrainOptions(runs=Path("elsewhere")), "--runs"),
        (TrainOptions(include_simulated=True), "--include-simulated"),
        (TrainOptions(gate=Path("gate")), "--gate"),
        (TrainOptions(database=REMOTE), "--database"),
        (TrainOptions(changes=("grpo.steps=9",), model="x", engine="local"), "--set, --engine, --model"),
    ],
)
def test_what_would_make_another_run_is_refused_where_one_goes_on(tmp_path: Path, options: TrainOptions, named: str) -> None:
    with RunFolder.create(tmp_path, "x", Recipe()) as run:
        run.record(0, {})
    with pytest.raises(InputError, match=rf"leave out {named}, or start a run anew"):
        train(replace(options, resume=run.path))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (TrainOptions(gate=Path("gate")), "--gate"),
        (TrainOptions(database=REMOTE, include_simulated=True), "--database, --include-simulated"),
    ],
)
def test_what_is_said_of_a_log_is_refused_where_none_is_learned_from(options: TrainOptions, named: str) -> None:
    with pytest.raises(InputError, match=rf"^{named}: said of the log"):
        resolved(options)


def test_a_run_of_train_does_not_go_on_as_a_warm_up(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "x", Recipe()) as run:
        run.record(0, {})
    with pytest.raises(InputError, match="go on with coderl train --resume"):
        train(TrainOptions(resume=run.path, sft_only=True))


def test_tasks_that_silence_passes_are_not_learned_from_and_those_that_it_solves_are_not_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gap = Task(
        "plain", TaskKind.INFILL, "def f(x):\n    y = x\n", suffix="    return y\n", reference="    y += 1\n", entry_point="f"
    )
    taught = replace(gap, visible_tests=("assert f(1) == 2",), hidden_tests=("assert f(2) == 3",))
    lucky = replace(gap, id="lucky", visible_tests=("assert f(1) > 0",), hidden_tests=("assert f(2) == 3",))
    trivial = replace(gap, id="trivial", visible_tests=("assert f(1) > 0",), hidden_tests=("assert f(2) > 0",))
    tasks = (taught, lucky, trivial)
    words = "the programs are in this file; where there is a jail it is used all the same"
    with open_judge(unjailed_because=words) as judge:
        kept = usable(Parts(tasks, tasks, tasks), judge)
    assert kept == Parts((taught,), (taught, lucky), (taught, lucky))
    assert "2 training tasks are left out: an empty answer passes them." in capsys.readouterr().err
