"""Whether a program passes its tests: it runs in a child process, and the verdict is made outside of it.

Covered. An exit status never counts: the child has to send back a nonce that it is given, and reads, after the tests have
passed. So `sys.exit(0)`, `os._exit(0)`, output of any kind and a program that swallows its tests are failures. CPU time, wall
time, memory, size and number of files are limited; the child has an empty temporary folder, no environment, and no network
where the system lets a user make a namespace of his own (`Judge.closed_network`). A grader that fails (the child did not come
to run the program, the tests cannot be compiled) is an outcome of its own and never counts as a wrong answer.

Not covered. Program and tests share a process: one that sets out to cheat can walk the frames, change `check`'s builtins,
return objects that equal everything, or find the descriptors and read the nonce. Files of the user can be read and his
processes reached; processes that leave the group outlive the child. This bounds accidents of a model's output; it is no jail
for an adversary, and nothing should be trained on its verdicts alone.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coderl_generator import jailed

_ANSWER_BYTES = len(jailed.STARTED) + jailed.NONCE_BYTES
_OUT_OF_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)


class Verdict(StrEnum):
    """What the tests say of a program."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    """It ran out of CPU or wall time; no pass."""
    JUDGE_FAILED = "judge_failed"
    """The tests could not be run: nothing is known of the program."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 5
    wall_s: float = 15.0
    """Longer than the CPU time, so that a busy machine is not taken for an endless loop."""
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20


class Judge:
    """Judges one program at a time; safe to call from several threads."""

    def __init__(self, limits: Limits | None = None, python: str = sys.executable) -> None:
        self._limits = limits or Limits()
        self._python = python

    @property
    def closed_network(self) -> bool:
        """Whether the programs run without a network."""
        return bool(_without_network())

    def judge(self, program: str, tests: str, entry_point: str = "") -> Verdict:
        """Run `program`, then `tests` with its names in scope, then `check(entry_point)` where one is named.

        Blocks for the time of the run. A child that cannot be started is `JUDGE_FAILED`.
        """
        nonce = secrets.token_hex(jailed.NONCE_BYTES // 2).encode()
        job = {
            "program": program,
            "tests": tests,
            "entry_point": entry_point,
            "cpu_s": self._limits.cpu_s,
            "memory_bytes": self._limits.memory_bytes,
            "file_bytes": self._limits.file_bytes,
        }
        body = json.dumps(job).encode()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                child = subprocess.Popen(
                    [*_without_network(), self._python, "-I", "-S", str(Path(jailed.__file__).resolve())],
                    cwd=folder,
                    env={},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                return Verdict.JUDGE_FAILED
            with child:
                try:
                    answer, in_time = self._talk(child, f"{len(body):08x}".encode() + body + nonce)
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
        if answer == jailed.STARTED + nonce:
            return Verdict.PASSED
        if not answer.startswith(jailed.STARTED):
            return Verdict.JUDGE_FAILED
        return Verdict.FAILED if in_time and child.returncode not in _OUT_OF_TIME else Verdict.TIMED_OUT

    def _talk(self, child: subprocess.Popen[bytes], message: bytes) -> tuple[bytes, bool]:
        """What the child answers, and whether it came to an end in time. Reads no more than a right answer holds."""
        assert child.stdin is not None
        assert child.stdout is not None
        give_up_s = time.monotonic() + self._limits.wall_s
        with suppress(BrokenPipeError):
            child.stdin.write(message)
        with suppress(BrokenPipeError):
            child.stdin.close()
        answer = b""
        while len(answer) <= _ANSWER_BYTES:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, give_up_s - time.monotonic()))
            if not ready:
                return answer, False
            part = os.read(child.stdout.fileno(), _ANSWER_BYTES + 1 - len(answer))
            if not part:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.1, give_up_s - time.monotonic()))
                break
            answer += part
        return answer, True


@functools.cache
def _without_network() -> tuple[str, ...]:
    """The command that runs another one in a network namespace of its own; empty where the system does not let this user."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--user", "--map-root-user", "--net")
    probe = subprocess.run([*command, sys.executable, "-I", "-S", "-c", ""], capture_output=True, check=False)
    return command if probe.returncode == 0 else ()
