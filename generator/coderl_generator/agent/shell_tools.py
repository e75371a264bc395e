"""The tools that run programs, in the jail, on a copy of the workspace.

What a program writes is gone afterwards: the copy lives in the jail's temporary folder and nothing comes back but its output.
So a program cannot change, delete or hide anything, whatever it is; changes are made by the tools that write.

Covered: what the jail covers (`coderl_generator.jail_bwrap`: no network, no other files, no other processes, memory, time,
output), `.git`, secrets and ignored files (they are not copied). Not covered: folders that the user shows to the jail on
purpose (the environment with the project's libraries) can be read by the program.
"""

from __future__ import annotations

import io
import shlex
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from coderl_generator.errors import PathRefused, ToolFailed
from coderl_generator.jail import Jail, Job, Limits, Status

from .calls import Parameter, ToolSpec
from .permissions import Kind
from .toolbox import Prepared
from .workspace import Workspace

_MOST_COPIED_BYTES: Final = 128 << 20
_MOST_COMMAND_CHARS: Final = 8_000
_OUTPUT_BYTES: Final = 200_000
_LIMITS = Limits(
    wall_s=60.0,
    cpu_s=60,
    memory_bytes=4 << 30,
    file_bytes=64 << 20,
    folder_bytes=2 * _MOST_COPIED_BYTES,
    open_files=256,
    processes=64,
    output_bytes=_OUTPUT_BYTES,
)
_BOOT: Final = """\
import os, sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    archive.extractall(".", filter="data")
for folder, _, _ in os.walk("."):
    os.utime(folder, (0, 0))
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
os.dup2(1, 2)
folders = [folder for folder in sys.argv[2:] if os.path.isdir(folder)]
os.environ["PATH"] = ":".join([*folders, "/usr/local/bin", "/usr/bin", "/bin"])
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.environ["HOME"] = os.environ["TMPDIR"] = os.getcwd()
os.execv("/bin/sh", ["/bin/sh", "-c", sys.argv[1]])
"""
"""Unpacks the copy, with the same times at every run, then becomes the shell."""
_ENDED = MappingProxyType(
    {
        Status.TIMED_OUT: "it was stopped after {:.0f} s",
        Status.CPU_EXCEEDED: "it used up its processor time",
        Status.OUTPUT_EXCEEDED: "it was stopped because it wrote too much",
        Status.KILLED: "it was killed by a signal (memory?)",
    }
)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs a command in a jail on a copy of the workspace."""

    jail: Jail
    workspace: Workspace
    programs: tuple[str, ...] = ()
    """Folders with programs, searched first; they have to be visible in the jail."""
    limits: Limits = _LIMITS

    def run(self, command: str) -> str:
        """Exit status and output. Raises `ToolFailed`, `JailFailed`."""
        if not command.strip() or len(command) > _MOST_COMMAND_CHARS or "\0" in command:
            raise ToolFailed(f"a command has 1 to {_MOST_COMMAND_CHARS} characters, none of them NUL")
        try:
            command.encode()
        except UnicodeEncodeError as error:
            raise ToolFailed("the command cannot be written as UTF-8") from error
        python = str(Path(sys.executable).resolve())
        argv = (python, "-I", "-S", "-c", _BOOT, command, *self.programs)
        ran = self.jail.run(Job(argv, stdin=self._packed()), self.limits)
        output = (ran.stdout + ran.stderr).decode("utf-8", "replace")
        head = f"exit status {ran.returncode}"
        if ran.status is not Status.FINISHED:
            head = _ENDED[ran.status].format(self.limits.wall_s)
        return f"{head}\n{output}".rstrip()

    def _packed(self) -> bytes:
        """The files that may be read, as a tar archive with nothing of this machine in it (owners, times)."""
        packed, total = io.BytesIO(), 0
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in self.workspace.files():
                try:
                    data = self.workspace.read(path)
                except (ToolFailed, PathRefused):
                    continue  # too large or gone meanwhile
                total += len(data)
                if total > _MOST_COPIED_BYTES:
                    raise ToolFailed(f"the workspace has more than {_MOST_COPIED_BYTES >> 20} MiB: too much for a copy")
                entry = tarfile.TarInfo(str(path))
                entry.size = len(data)
                entry.mode = 0o755 if data.startswith(b"#!") else 0o644
                archive.addfile(entry, io.BytesIO(data))
        return packed.getvalue()


class Shell:
    """A command line."""

    spec = ToolSpec(
        "shell",
        "Run a command with /bin/sh on a COPY of the workspace, without network; look, search, run programs. "
        "Whatever it writes is lost: change files with the other tools. .git is not there.",
        (Parameter("command", "string", "The command line."),),
    )

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        command = arguments["command"]
        return Prepared(Kind.SHELL, (command,), lambda: self._runner.run(command))


class RunTests:
    """The project's tests."""

    def __init__(self, runner: Runner, command: str) -> None:
        """`command`: what runs them; what the model names is added to it, quoted."""
        self._runner = runner
        self._command = command
        self.spec = ToolSpec(
            "run_tests",
            f"Run the tests with `{command}`, on a copy of the workspace.",
            (Parameter("target", "string", "A file or test to run alone. Default: all.", required=False),),
        )

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        command = self._command + _quoted([arguments["target"]] if arguments.get("target") else [])
        return Prepared(Kind.SHELL, (command,), lambda: self._runner.run(command))


def _quoted(words: Sequence[str]) -> str:
    return "".join(f" {shlex.quote(word)}" for word in words)
