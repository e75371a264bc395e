"""The scripts that unpack Emacs, Helix and luacheck: what they say where they cannot, and that they do nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "install"
EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors")
"""Read before `own_home` hides the variable."""
PROGRAMS = {"emacs": ("Emacs", "GNU Emacs "), "helix": ("Helix", "helix "), "luacheck": ("luacheck", "Luacheck: ")}
"""By script: what it is called in messages, and how the line with its version begins."""


def run(script: str, editors: Path, path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CODERL_EDITORS": str(editors), "PATH": path}
    command = ["/bin/sh", str(SCRIPTS / f"{script}.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def tools(folder: Path, *names: str) -> str:
    """A folder with these programs alone, as a PATH."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("script", PROGRAMS)
def test_it_says_in_a_sentence_why_it_cannot(tmp_path: Path, script: str) -> None:
    done = run(script, tmp_path / "editors", tools(tmp_path / "bin", "dirname"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"{PROGRAMS[script][0]} cannot be installed here: apt-get and dpkg-deb are missing.\n"
    assert not (tmp_path / "editors").exists()


@pytest.mark.parametrize("script", PROGRAMS)
def test_what_is_installed_is_kept(tmp_path: Path, script: str) -> None:
    stamp = EDITORS / script / ".installed"
    if not stamp.is_file():
        pytest.skip(f"not installed: run tests/editors/install/{script}.sh")
    before = stamp.stat().st_mtime_ns
    # Without apt on the PATH: nothing is fetched.
    done = run(script, EDITORS, tools(tmp_path / "bin", "head", "grep", "dirname"))
    assert done.returncode == 0, done.stderr
    program, version = done.stdout.splitlines()
    assert Path(program).parent == EDITORS / script
    assert version.startswith(PROGRAMS[script][1])
    assert stamp.stat().st_mtime_ns == before
