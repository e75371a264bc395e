"""What every test gets: a home folder of its own, no settings of the machine, and the way to real data and the real model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
