"""What a jail is asked and what it answers: limits, guarantees, jobs, results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import CodeType, MappingProxyType
from typing import Protocol


class Guarantee(StrEnum):
    """One thing that a jail holds back; a result names those that were in force."""

    NO_NETWORK = "no_network"
    """A network namespace without a way out; not even the machine itself can be reached."""
    FILES_HIDDEN = "files_hidden"
    """Only Python and the C libraries can be read (all of /usr where Python is the system's); nothing of the user's but what
    the caller showed on purpose."""
    FILES_READ_ONLY = "files_read_only"
    """Nothing but the temporary folder can be written, and that is gone afterwards."""
    DISK_CAPPED = "disk_capped"
    PROCESSES_HIDDEN = "processes_hidden"
    """A process namespace: other processes can neither be seen nor signalled."""
    IPC_HIDDEN = "ipc_hidden"
    SYSTEM_CALLS_FILTERED = "system_calls_filtered"
    """The deny-list of `coderl_generator.jail_seccomp`."""
    NO_PRIVILEGES = "no_privileges"
    """No capability, and none to be had from a set-uid program."""
    NO_ENVIRONMENT = "no_environment"
    MEMORY_CAPPED = "memory_capped"
    """Of each process (address space)."""
    PROCESS_COUNT_CAPPED = "process_count_capped"
    CPU_CAPPED = "cpu_capped"
    """Of each process."""
    WALL_CAPPED = "wall_capped"
    OUTPUT_CAPPED = "output_capped"
    KILLED_AS_A_GROUP = "killed_as_a_group"
    """Whatever was started inside is dead when the run ends, daemons included."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use."""

    wall_s: float = 10.0
    cpu_s: int = 5
    """Of each process; whole seconds, as the system counts them."""
    memory_bytes: int = 1 << 30
    """Address space of each process."""
    file_bytes: int = 8 << 20
    """Largest file."""
    folder_bytes: int = 16 << 20
    """The temporary folder altogether."""
    open_files: int = 64
    processes: int = 0
    """Processes beside the first; 0 = it may start none (threads it may)."""
    output_bytes: int = 1 << 20
    """Of each of standard output and standard error."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """By itself, whatever its exit status."""
    TIMED_OUT = "timed_out"
    """Its wall time was used up."""
    CPU_EXCEEDED = "cpu_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    KILLED = "killed"
    """By a signal of its own making (a crash) or of the system's (memory)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run to its end. The working folder is empty but for `files`."""

    argv: tuple[str, ...] = ()
    """Empty = Python runs `main.py` of `files`."""
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    """By name relative to the working folder, without `..`."""
    stdin: bytes = b""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a job."""

    status: Status
    returncode: int | None
    """As a shell counts: 128 + n for signal n; None where it was ended by the limits."""
    stdout: bytes
    stderr: bytes
    """Both cut at `Limits.output_bytes`."""
    wall_ms: float
    cpu_ms: float | None
    """User and system time of all processes together; None where the backend cannot say (bubblewrap does not)."""
    guarantees: frozenset[Guarantee]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a conversation used."""

    returncode: int
    """As the system gives it: negative for a signal."""
    wall_ms: float
    cpu_ms: float | None
    """User and system time of the program inside; None where that cannot be had."""


class Conversation(Protocol):
    """A Python program inside, and a two-way channel to it. For one thread."""

    tag: str
    """A word on the command line of the program and of every process that it forks."""

    def started(self) -> None:
        """Wait until Python runs inside; what was sent before waits for it. Raises `JailFailed` where it does not come up."""

    def send(self, data: bytes, until_s: float) -> None:
        """All of `data`. Raises `ChannelClosed`, or `TimeoutError` once `time.monotonic()` passes `until_s`."""

    def receive(self, size: int, until_s: float) -> bytes:
        """Exactly `size` bytes. Raises as `send` does."""

    def end(self) -> Ended:
        """Kill everything inside; says what was used. May be called twice."""


class Jail(ABC):
    """Runs programs apart from this machine, as far as its guarantees say. Safe to use from several threads."""

    name: str

    @abstractmethod
    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        """What is in force for a run with these limits."""

    @abstractmethod
    def run(self, job: Job, limits: Limits) -> Ran:
        """Run a job to its end. Raises `JailFailed` where the program could not be started or its result not be had."""

    @abstractmethod
    def converse(self, code: CodeType, limits: Limits) -> Conversation:
        """Start Python with `code`, whose global `channel` is the descriptor of its end of the channel; does not wait for it.

        `wall_s` and `output_bytes` are the caller's affair: he ends the conversation. Raises `JailFailed`.
        """
