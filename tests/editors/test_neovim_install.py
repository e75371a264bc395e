"""The script that installs Neovim for these tests: what it says where it cannot, and that it does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .neovim_driver import PROGRAM, skip_without_neovim

SCRIPT = Path(__file__).parent / "install" / "neovim.sh"


def run(editors: Path, path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CODERL_EDITORS": str(editors), "PATH": path}
    return subprocess.run(["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_says_in_a_sentence_why_it_cannot(tmp_path: Path) -> None:
    done = run(tmp_path / "editors", str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Neovim cannot be installed here: apt-get and dpkg-deb are missing.\n"
    assert not (tmp_path / "editors").exists()


def test_what_is_installed_is_kept() -> None:
    skip_without_neovim()
    folder = Path(PROGRAM).parent
    if not (folder / ".installed").is_file():
        pytest.skip(f"{PROGRAM} was not installed by the script")
    before = (folder / ".installed").stat().st_mtime_ns
    # Without apt on the PATH: nothing is fetched.
    tools = {name: shutil.which(name) for name in ("head", "cat")}
    done = run(folder.parent, os.pathsep.join({str(Path(tool).parent) for tool in tools.values() if tool}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == PROGRAM
    assert done.stdout.splitlines()[1].startswith("NVIM v0.")
    assert (folder / ".installed").stat().st_mtime_ns == before
