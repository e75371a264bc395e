"""Runs an agent: a program that starts programs, in a working copy, with one way out, the proxy's socket.

Inside there are the system's programs, Python with what is installed beside it, what the user names as readable, the working
copy (writable), a folder for the trajectory and a temporary folder. Covered: no network but the proxy, which the agent meets as
an address of its own loopback; no file of the user's or of the harness's: hidden tests, right patches and the harness's git are
in no folder that is there, the package that holds tasks is masked, and task files that lie in a readable folder are refused;
no other process to see or signal; limits of each process, of wall time and of the working copy's size (looked at twice a
second); everything inside is dead before the copy is read. Agents may make jails of their own, as `simplecoder` does for what
it runs: that takes user namespaces, so a fault of the kernel in these is within reach. Not covered: that, time taken from other
programs, memory of all processes together, and a disk filled within half a second.

There is no way to run an agent without a jail: it runs commands of its own choosing.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

import coderl_generator
import coderl_store
import coderl_trainer
from coderl_generator.errors import JailFailed, JailUnavailable
from coderl_generator.jail_bwrap import NAMESPACES, find_bwrap, runtime_binds
from coderl_generator.jail_process import filled_pipe, read_line
from coderl_generator.jail_seccomp import seccomp_filter
from coderl_trainer.errors import AgentUnusable, JailMissing

from .trees import tree_bytes

REPOSITORY: Final = "/workspace/repository"
"""Where the working copy is, inside."""
_OUT: Final = "/workspace/out"
_TRAJECTORY: Final = "trajectory.jsonl"
_SOCKET: Final = "/workspace/proxy"
_PORT: Final = 8000
_START_S: Final = 30.0
_GONE_S: Final = 30.0
_LOOK_S: Final = 0.5
_TAIL: Final = 20_000
_NOT_STARTED: Final = 127


class AgentStatus(StrEnum):
    """How an agent's run ended."""

    FINISHED = "finished"
    """By itself, whatever its exit status."""
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    """The working copy grew beyond its limit."""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """What one run may use."""

    wall_s: float = 600.0
    cpu_s: int = 600
    """Of each process."""
    memory_bytes: int = 16 << 30
    """Address space of each process."""
    file_bytes: int = 128 << 20
    folder_bytes: int = 256 << 20
    """The working copy and the trajectory together."""
    open_files: int = 1024
    processes: int = 512

    def rules(self) -> list[tuple[int, int]]:
        """Kind and value, as `resource.setrlimit` takes them."""
        return [
            (resource.RLIMIT_CPU, self.cpu_s),
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_FSIZE, self.file_bytes),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_CORE, 0),
        ]


@dataclass(frozen=True, slots=True)
class AgentEnded:
    """What became of a run."""

    status: AgentStatus
    returncode: int | None
    """As a shell counts; None where it was ended by the limits."""
    wall_s: float
    said: str
    """The end of its standard error."""


class AgentJail:
    """Starts agents. Raises `JailMissing` on construction where no jail can be had here."""

    def __init__(
        self,
        limits: AgentLimits | None = None,
        reads: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        packages: Sequence[Path] = (),
    ) -> None:
        """`reads`: folders that agents may read too. `hidden`: what they must not, for example files of tasks; raises
        `AgentUnusable` where one of those lies in what is readable. `packages`: folders that hold packages of Python which
        agents import, beside those of `NEEDED`."""
        self.limits = limits or AgentLimits()
        try:
            self._binary = str(find_bwrap())
            self._filter = seccomp_filter(processes=True, nesting=True)
        except JailUnavailable as error:
            raise JailMissing(f"Agents run in a jail only: {error}") from error
        imported = {*(Path(one.__path__[0]).parent.resolve() for one in NEEDED), *(one.resolve() for one in packages)}
        prefixes = {Path(sys.prefix).resolve(), *imported}
        self._binds = list(runtime_binds(commands=True))
        bound = [Path(one) for one in self._binds if one.startswith("/")]
        for path in (*sorted(prefixes), *(one.resolve() for one in reads)):
            if not any(path.is_relative_to(one) for one in bound):
                self._binds += ["--ro-bind", str(path), str(path)]
                bound.append(path)
        trainer = Path(coderl_trainer.__path__[0]).resolve()
        if any(trainer.is_relative_to(one) for one in bound):
            self._binds += ["--tmpfs", str(trainer)]
        for path in hidden:
            if any(path.resolve().is_relative_to(one) for one in bound):
                raise AgentUnusable(f"{path} lies in a folder that agents can read: put it somewhere else.")
        self._python_path = os.pathsep.join(map(str, sorted(imported)))

    def run(
        self, argv: Callable[[Mapping[str, str]], Sequence[str]], repository: Path, out: Path, socket: Path, key: str
    ) -> AgentEnded:
        """Run a command to its end and return when everything inside is dead.

        `argv` makes the command of the places inside (`repository`, `base_url`, `trajectory`, `python`); `out`: where its
        trajectory goes; `socket`: of the proxy; `key`: the run's, part of the base URL. Raises `AgentUnusable` where the
        command cannot be started, `JailFailed` where the jail cannot.
        """
        base_url = f"http://127.0.0.1:{_PORT}/runs/{key}/v1"
        places = {
            "repository": REPOSITORY,
            "base_url": base_url,
            "trajectory": f"{_OUT}/{_TRAJECTORY}",
            "python": sys.executable,
        }
        command = list(argv(places))
        job = {
            "argv": command,
            "environment": self._environment(base_url),
            "folder": REPOSITORY,
            "socket": f"{_SOCKET}/{socket.name}",
            "port": _PORT,
            "limits": self.limits.rules(),
        }
        began_s = time.monotonic()
        with self._started(repository, out, socket, job) as (process, tails):
            status = self._watched(process, (repository, out), began_s + self.limits.wall_s)
        wall_s = time.monotonic() - began_s
        said = tails[1].decode(errors="replace")
        if status is AgentStatus.FINISHED and process.returncode == _NOT_STARTED and "cannot be started" in said:
            raise AgentUnusable(f"The agent's program {command[0]!r} is not to be found in its jail: {said.strip()}")
        return AgentEnded(status, process.returncode if status is AgentStatus.FINISHED else None, wall_s, said[-2000:])

    @contextmanager
    def _started(
        self, repository: Path, out: Path, socket: Path, job: Mapping[str, Any]
    ) -> Iterator[tuple[subprocess.Popen[bytes], tuple[bytearray, bytearray]]]:
        """The process, and the ends of its outputs; all inside is dead afterwards."""
        with ExitStack() as stack:
            filter_fd = filled_pipe(self._filter, stack)
            status_fd, status_inner = os.pipe()
            stack.callback(os.close, status_fd)
            command = [
                *(self._binary, *NAMESPACES, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *self._binds),
                *("--bind", str(repository), REPOSITORY, "--bind", str(out), _OUT, "--ro-bind", str(socket.parent), _SOCKET),
                *("--ro-bind", str(Path(__file__).with_name("inside_agent.py")), "/workspace/start.py"),
                *("--chdir", REPOSITORY, "--seccomp", str(filter_fd), "--json-status-fd", str(status_inner)),
                *("--remount-ro", "/", "--", os.path.realpath(sys.executable), "-I", "-S", "-B", "/workspace/start.py"),
            ]
            try:
                process = subprocess.Popen(
                    command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    pass_fds=(filter_fd, status_inner), start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise JailFailed(f"{self._binary} cannot be started: {error}") from error
            finally:
                os.close(status_inner)
            tails = (bytearray(), bytearray())
            readers = [
                threading.Thread(target=_keep_end, args=(pipe, tail), daemon=True)
                for pipe, tail in zip((process.stdout, process.stderr), tails, strict=True)
            ]
            for reader in readers:
                reader.start()
            handle = -1
            try:
                handle = _first_inside(status_fd)
                assert process.stdin is not None
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(json.dumps(job).encode())
                yield process, tails
            finally:
                _end(process, handle)
                for reader in readers:
                    reader.join(_GONE_S)
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()

    def _watched(self, process: subprocess.Popen[bytes], folders: Sequence[Path], until_s: float) -> AgentStatus:
        while (left_s := until_s - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(_LOOK_S, left_s))
                return AgentStatus.FINISHED
            if sum(tree_bytes(folder, self.limits.folder_bytes) for folder in folders) > self.limits.folder_bytes:
                return AgentStatus.TOO_LARGE
        return AgentStatus.TIMED_OUT

    def _environment(self, base_url: str) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")),
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": self._python_path,
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "none",
            **{f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _GIT_NAME},
        }


NEEDED: Final = (coderl_generator, coderl_store)
"""Packages that agents of this project import."""
_GIT_NAME: Final = (("NAME", "agent"), ("EMAIL", "agent@localhost"))


def _first_inside(status_fd: int) -> int:
    """A handle of the jail's first process, with which all others there end."""
    try:
        return os.pidfd_open(int(json.loads(read_line(status_fd, time.monotonic() + _START_S))["child-pid"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise JailFailed("bubblewrap ended before it made a jail for the agent") from error


def _end(process: subprocess.Popen[bytes], handle: int) -> None:
    """Kill everything inside, and wait until it is gone. Raises `JailFailed` where it does not go."""
    try:
        if handle < 0:
            process.kill()
            process.wait(_GONE_S)
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        gone, _, _ = select.select([handle], [], [], _GONE_S)
        process.wait(_GONE_S)
        if not gone:
            raise JailFailed("processes of the agent do not end")
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise JailFailed("the agent's jail does not end") from error
    finally:
        if handle >= 0:
            os.close(handle)


def _keep_end(pipe: IO[bytes] | None, tail: bytearray) -> None:
    assert pipe is not None
    with suppress(OSError, ValueError):
        while part := os.read(pipe.fileno(), 1 << 16):
            tail.extend(part)
            del tail[:-_TAIL]
