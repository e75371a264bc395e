"""No jail: a process of this machine with limits. Only for code that one would run by hand.

Covered: processor time, memory and file size of each process, wall time, output, an empty environment, a temporary folder that
is removed. Not covered: everything else. The program reads and writes the user's files, reaches the network and other
processes, and what leaves its process group outlives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from .errors import JailFailed
from .jail_bwrap import checked_name
from .jail_process import LocalJail, Started, rules, set_limits
from .jail_types import Guarantee, Job, Limits

_IN_FORCE = frozenset(
    {
        Guarantee.MEMORY_CAPPED,
        Guarantee.CPU_CAPPED,
        Guarantee.WALL_CAPPED,
        Guarantee.OUTPUT_CAPPED,
        Guarantee.NO_ENVIRONMENT,
    }
)


class Unjailed(LocalJail):
    """Runs programs with nothing around them. `because` is kept for the reports: somebody has to have said why."""

    name = "none"

    def __init__(self, because: str) -> None:
        if not because.strip():
            raise ValueError("Say in words why programs may run without a jail.")
        self.because = because

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        """The few that a process's own limits give."""
        return _IN_FORCE

    def _own_rules(self, limits: Limits) -> Sequence[tuple[int, int, int]]:
        return rules(limits, processes=None)

    def _start(
        self,
        argv: Sequence[str],
        limits: Limits,
        *,
        job: Job | None,
        keep: tuple[int, ...],
        streams: tuple[int, int, int],
        stack: ExitStack,
    ) -> Started:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            for name, data in job.files.items() if job is not None else ():
                path = Path(folder.name) / checked_name(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            process = subprocess.Popen(
                argv,
                cwd=folder.name,
                env={"PATH": os.defpath} if job is not None and job.argv else {},
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                pass_fds=keep,
                start_new_session=True,
            )
        except OSError as error:
            folder.cleanup()
            raise JailFailed(f"the program cannot be started: {error}") from error

        def kill() -> None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            folder.cleanup()

        started = Started(process, kill)
        with suppress(JailFailed):
            if job is not None:
                set_limits(process.pid, limits, processes=None)  # a program that is over already needs none
        return started
