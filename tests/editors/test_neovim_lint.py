"""luacheck over the Lua of editors/nvim."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .neovim_driver import EDITOR

_EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors")
# Read before `own_home` hides the variable.
PROGRAM = shutil.which("luacheck") or shutil.which(str(_EDITORS / "luacheck" / "luacheck"))


def test_luacheck_finds_nothing(tmp_path: Path) -> None:
    if PROGRAM is None:
        pytest.skip("no luacheck: run tests/editors/install/luacheck.sh")
    check = [PROGRAM, ".", "--no-color", "--no-cache"]
    done = subprocess.run(check, cwd=EDITOR, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" {len(list(EDITOR.rglob('*.lua')))} files" in done.stdout

    # The linter is at work: the same call finds a global that nobody means.
    shutil.copytree(EDITOR, tmp_path / "nvim")
    (tmp_path / "nvim" / "lua" / "slip.lua").write_text("slipped = 1\n")
    done = subprocess.run(check, cwd=tmp_path / "nvim", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "slip.lua:1:1: setting non-standard global variable 'slipped'" in done.stdout
