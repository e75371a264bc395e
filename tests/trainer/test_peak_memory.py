"""The peak of memory is in MB, whatever the system counts in."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
from coderl_trainer.peak_memory import peak_mb
before = peak_mb()
held = b"x" * (300 * 10**6)
print(before, peak_mb())
"""


def test_what_a_process_holds_is_seen_and_what_its_children_hold_is_not() -> None:
    # By a shell, which is small: Linux carries the size of the starting program over `exec`.
    by_shell = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, CODE]
    done = subprocess.run(by_shell, capture_output=True, text=True, timeout=60, check=True)
    before, after = map(float, done.stdout.split())
    assert after - before == pytest.approx(300, rel=0.1)
    from coderl_trainer.peak_memory import peak_mb

    own = peak_mb()
    subprocess.run(
        [sys.executable, "-c", CODE.replace("300", str(int(own) + 500))], timeout=60, check=True, capture_output=True
    )
    assert peak_mb() < own + 250
