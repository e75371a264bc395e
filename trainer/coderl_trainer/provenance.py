"""Where a run was made: machine, versions, and the state of the checkout. Nothing heavy is imported to say so."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("coderl", "torch", "transformers", "peft", "accelerate", "trl", "tinker", "vllm", "numpy", "scipy")
"""Whose versions may explain why two runs differ."""
_GIT_S: Final = 20.0
"""Longest wait for one git command: a checkout on a network disk must not hold up a training."""


def environment() -> dict[str, Any]:
    """Python, platform, cores, and versions (None = not installed)."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state(file: Path | None = None) -> dict[str, Any]:
    """Commit and whether committed files were changed, of the checkout that `file` is committed in (default: this module).

    Where there is none, or git cannot tell, only `absent` with the reason: an installed package may well lie inside somebody
    else's checkout.
    """
    file = Path(__file__) if file is None else file
    try:
        _git(file.parent, "ls-files", "--error-unmatch", "--", file.name)
    except FileNotFoundError:
        return {"absent": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {"absent": f"git did not answer in {_GIT_S:.0f} s"}
    except (OSError, subprocess.CalledProcessError):
        return {"absent": "the code runs from an installed package, not from a checkout"}
    try:
        commit = _git(file.parent, "rev-parse", "HEAD").strip()
        changed = [line[3:] for line in _git(file.parent, "status", "--porcelain", "--untracked-files=no").splitlines()]
    except subprocess.TimeoutExpired:
        return {"absent": f"git did not answer in {_GIT_S:.0f} s"}
    except (OSError, subprocess.CalledProcessError) as error:
        return {"absent": f"git failed: {error}"}
    return {"commit": commit, "dirty": bool(changed), "changed": changed}


def _git(folder: Path, *words: str) -> str:
    run = subprocess.run(
        ["git", "-c", "core.quotepath=off", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_GIT_S,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return run.stdout
