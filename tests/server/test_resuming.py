"""How a launched run hears Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

import pytest

TWICE = """
import os, signal, sys
from coderl_server.resuming import hear_ctrl_c_once

signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[1] == "ignored" else signal.default_int_handler)
if sys.argv[1] != "as ever":
    hear_ctrl_c_once()
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("not heard")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    print("ended whole")
"""


@pytest.mark.parametrize(
    ("how", "status", "said"), [("once", 0, "ended whole"), ("as ever", -2, ""), ("ignored", 0, "not heard")]
)
def test_a_second_ctrl_c_does_not_fall_into_what_the_first_one_ends(how: str, status: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE, how], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (status, said)
