"""What `coderl train` makes of its options, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coderl_server.errors import InputError
from coderl_server.training import TrainOptions, database_of, log_source, resolved, train
from coderl_trainer.recipe import LogSource, Recipe
from coderl_trainer.runs import RunFolder

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
