from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coderl_store.errors import SettingsError
from coderl_store.home import StoreSettings, default_database_url, hashed, home, salt
from coderl_store.records import Privacy


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CODERL_DATABASE_URL", "CODERL_PRIVACY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODERL_HOME", str(tmp_path / "home"))


def test_the_home_folder_is_private(tmp_path: Path) -> None:
    assert home() == tmp_path / "home"
    assert stat.S_IMODE(home().stat().st_mode) == 0o700


def test_without_the_variable_it_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CODERL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert home().name == "coderl"
    assert tmp_path in home().parents


def test_a_home_that_is_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CODERL_HOME", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="set CODERL_HOME to a folder you may write to"):
        home()


def test_defaults_environment_and_arguments_in_rising_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StoreSettings.from_environment() == StoreSettings(home(), default_database_url(home()), Privacy.METRICS)
    monkeypatch.setenv("CODERL_DATABASE_URL", "postgresql+psycopg://me@host/log")
    monkeypatch.setenv("CODERL_PRIVACY", "code")
    assert StoreSettings.from_environment() == StoreSettings(home(), "postgresql+psycopg://me@host/log", Privacy.CODE)
    assert StoreSettings.from_environment("sqlite:////a.db", "off") == StoreSettings(home(), "sqlite:////a.db", Privacy.OFF)


@pytest.mark.parametrize("url", ["coderl.db", "mysql://host/log", "sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_an_unusable_url_is_one_sentence(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^The database .*\.$"):
        StoreSettings.from_environment(url)


def test_a_url_of_the_environment_is_blamed_on_it_only_where_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_DATABASE_URL", "mysql://host/log")
    with pytest.raises(SettingsError, match=r"^CODERL_DATABASE_URL cannot be used: The database .*\.$"):
        StoreSettings.from_environment()
    with pytest.raises(SettingsError, match=r"^The database "):
        StoreSettings.from_environment("mysql://elsewhere/log")


def test_an_unknown_privacy_level_lists_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_PRIVACY", "public")
    with pytest.raises(SettingsError, match="must be one of off, metrics, code, not 'public'"):
        StoreSettings.from_environment()


def test_a_home_that_no_url_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="question mark"):
        default_database_url(tmp_path / "what?")


def test_the_salt_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = salt(tmp_path)
    assert len(first) == 32
    assert salt(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600


def test_processes_that_ask_at_once_get_the_same_salt(tmp_path: Path) -> None:
    code = "import pathlib, sys; from coderl_store import salt; sys.stdin.read(1); print(salt(pathlib.Path(sys.argv[1])).hex())"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("g")
        child.stdin.flush()
    assert len({child.communicate()[0] for child in children}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


def test_a_damaged_salt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(SettingsError, match="damaged"):
        salt(tmp_path)


def test_hashed_names() -> None:
    assert hashed(b"k" * 32, "file:///a.py") == hashed(b"k" * 32, "file:///a.py")
    assert hashed(b"k" * 32, "file:///a.py") != hashed(b"l" * 32, "file:///a.py")
    assert hashed(b"k" * 32, "a") != hashed(b"k" * 32, "b")
    assert len(hashed(b"k" * 32, "\ud83d")) == 32
    int(hashed(b"k" * 32, ""), 16)
