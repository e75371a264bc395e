"""What every test gets: a home folder of its own, no settings of the machine, and the way to real data and the real model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests import postgres
from tests.postgres import PostgresServer

# The machine's own settings, read before `own_home` hides them from the code under test.
_SHARED_DATA = os.environ.get("CODERL_SHARED_DATA")
_MODEL_HOME = os.environ.get("CODERL_MODEL_HOME") or os.environ.get("CODERL_HOME")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh `CODERL_HOME`; every other `CODERL_*` variable is gone. Subprocesses of the test inherit it."""
    for name in [name for name in os.environ if name.startswith("CODERL_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "coderl-home"
    monkeypatch.setenv("CODERL_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets (each with a README that says where it comes from); none of it is committed."""
    folder = Path(_SHARED_DATA) if _SHARED_DATA else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("CODERL_SHARED_DATA does not name a folder of data sets")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process alone."""
    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres.running() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database on the server, which runs."""
    name = postgres_server.add_database()
    yield name
    postgres_server.start()  # the test may have stopped it
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database of either kind: a test that asks for it runs twice."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'coderl.db'}"
    name = request.getfixturevalue("postgres_database")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url(name)


@pytest.fixture
def either_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, as the database of everything that asks the environment for one."""
    monkeypatch.setenv("CODERL_DATABASE_URL", database_url)
    return database_url


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The installed embedded model (in `CODERL_MODEL_HOME`, else the home folder this shell would use)."""
    from platformdirs import user_data_dir

    from coderl_generator.errors import ModelMissing
    from coderl_generator.models import find_model

    home = Path(_MODEL_HOME).expanduser() if _MODEL_HOME else Path(user_data_dir("coderl", appauthor=False))
    try:
        return find_model(home)
    except ModelMissing:
        pytest.skip(f"the embedded model is not installed in {home}: run `coderl models install`")
