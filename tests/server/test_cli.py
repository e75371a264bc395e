"""The command line: exit codes, and one sentence for a user's mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.synthetic import World
from coderl_store.home import default_database_url
from coderl_store.repository import Repository


def test_help_names_every_command(coderl: Any) -> None:
    code, out, _ = coderl("--help")
    assert code == 0
    for command in ("lsp", "models", "doctor", "simulate", "record", "replay", "demo"):
        assert command in out


def test_the_version_is_that_of_the_distribution(coderl: Any) -> None:
    from importlib.metadata import version

    assert coderl("--version") == (0, f"coderl {version('coderl')}\n", "")


@pytest.mark.parametrize("arguments", [(), ("no-such-command",), ("lsp", "--no-such-option"), ("lsp", "--threads", "0")])
def test_what_cannot_be_understood_is_exit_code_two(coderl: Any, arguments: tuple[str, ...]) -> None:
    code, out, err = coderl(*arguments)
    assert code == 2
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("lsp", "--privacy", "some"), "--privacy must be one of off, metrics, code"),
        (("lsp", "--clock", "sundial"), "--clock must be one of system, client"),
        (("lsp", "--tcp", "x:y"), "--tcp must be HOST:PORT"),
        (("lsp", "--log-level", "loud"), "--log-level must be one of"),
        (("lsp", "--session-id", "mine"), "--session-id must be a UUID, not 'mine'"),
    ],
)
def test_a_choice_that_is_none_is_said_with_the_choices(coderl: Any, arguments: tuple[str, ...], word: str) -> None:
    code, out, err = coderl(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"coderl: {word}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "zz"), "rule must be one of"),
        (("--privacy", "zz"), "privacy level must be one of"),
        (("--backend", "zz"), "no backend `zz`"),
        (("--backend", "scripted", "--script", "/nonexistent"), "/nonexistent"),
        (("--model", "/nonexistent.gguf"), "--model cannot be used: there is no model file at /nonexistent.gguf"),
        (("--backend", "scripted", "--gate", "/nonexistent"), "no gate artifact in /nonexistent"),
        (("--backend", "scripted", "--home", "/dev/null/x"), "data folder /dev/null/x cannot be used"),
    ],
)
def test_what_a_simulation_cannot_use_is_said_before_it_starts(coderl: Any, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = coderl("simulate", __file__, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_replay_does_not_make_the_database_it_does_not_find(coderl: Any, tmp_path: Path) -> None:
    typo = tmp_path / "typo.db"
    code, out, err = coderl("replay", "--database", f"sqlite:///{typo}")
    assert (code, out, typo.exists()) == (2, "", False)
    assert err == f"coderl: There is no log at {typo}: name the database of a server that has run.\n"
    code, _, err = coderl("replay", "--database", "mysql://host/log")
    assert (code, "CODERL_DATABASE_URL" in err) == (2, False)


def test_the_doctor_speaks_json_and_fails_without_a_model(coderl: Any) -> None:
    code, out, _ = coderl("doctor", "--json")
    report = json.loads(out)
    assert code == 1
    assert report["works"] is False


@pytest.mark.parametrize(("wheel", "said"), [("/no/such.whl", "is not there"), (__file__, "is not a wheel")])
def test_what_is_no_wheel_is_one_sentence(coderl: Any, wheel: str, said: str) -> None:
    code, out, err = coderl("models", "install", "--wheel", wheel)
    assert (code, out) == (2, "")
    assert err.startswith(f"coderl: --wheel {wheel} {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backend", "nonsense"),
        ("--backend", "openai"),
        ("--backend", "openai", "--endpoint", "localhost:8000"),
        ("--backend", "scripted", "--script", "/no/such/script.json"),
    ],
)
def test_a_backend_that_can_never_work_is_refused_at_the_start(coderl: Any, arguments: tuple[str, ...]) -> None:
    code, out, err = coderl("lsp", "--tcp", "127.0.0.1:0", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("coderl: ")
    assert err.count("\n") == 1


def test_why_without_a_log_is_one_sentence_and_makes_none(own_home: Path, tmp_path: Path, coderl: Any) -> None:
    missing = f"sqlite:///{tmp_path / 'nowhere.db'}"
    code, out, err = coderl("why", "--database", missing)
    assert (code, out) == (2, "")
    assert "There is no log" in err
    assert not (tmp_path / "nowhere.db").exists()
    code, _, err = coderl("why", "--last", "0")
    assert code == 2
    assert "Traceback" not in err


def test_why_speaks_json(own_home: Path, coderl: Any) -> None:
    own_home.mkdir()
    log = Repository(default_database_url(own_home))
    for one in World(users=1, requests_per_user=4).requests():
        records = (one.session, one.context, one.decision, one.suggestion, one.outcome)
        log.append(record for record in records if record is not None)
    log.close()
    code, out, err = coderl("why", "--last", "3", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert len(told["decisions"]) == 3
    assert set(told) == {"decisions", "adaptation", "drift"}
