"""Programs as processes of this machine: starting, limiting, reading with a cap, killing as a group.

`LocalJail` is what the bubblewrap jail and the unjailed runner share. Limits are set on the new process before it is let go
(bubblewrap waits for a byte), or right after its start (unjailed); Python in a conversation sets its own before it reads
what it is to run.
"""

from __future__ import annotations

import marshal
import os
import resource
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import CodeType

from .errors import ChannelClosed, JailFailed
from .jail_types import Ended, Guarantee, Jail, Job, Limits, Ran, Status

_BOOT = (
    "import marshal,posix,sys\n"
    "channel=int(sys.argv[1])\n"
    "if sys.argv[3]:\n"
    " import resource\n"
    " for rule in sys.argv[3].split(';'):\n"
    "  kind,soft,hard=map(int,rule.split(','))\n"
    "  resource.setrlimit(kind,(soft,hard))\n"
    "posix.write(channel,b'k')\n"
    "def exactly(n):\n"
    " b=b''\n"
    " while len(b)<n:\n"
    "  c=posix.read(channel,n-len(b))\n"
    "  if not c:posix._exit(1)\n"
    "  b+=c\n"
    " return b\n"
    "exec(marshal.loads(exactly(int(exactly(8),16))),{'__name__':'jailed','channel':channel})\n"
)
"""Limits itself, says that it is there, and reads the code that `Jail.converse` was given: eight hexadecimal digits of its
length, then `marshal`'s form."""
_START_S = 30.0
"""Longest start of a process on a machine that is busy otherwise."""
_PYTHON = os.path.realpath(sys.executable)


@dataclass(slots=True)
class Started:
    """A process that runs, and how to end all that it started."""

    process: subprocess.Popen[bytes]
    kill: Callable[[], None]
    cpu_s: Callable[[], float] | None = None
    """Processor time of the program so far; None = that of `process` and what it waited for."""
    confirm: Callable[[], bool] = lambda: True
    """Whether the program was really started; asked after the end."""
    start_s: float = field(default_factory=time.monotonic)
    ended: Ended | None = None

    def end(self) -> Ended:
        """Kill and reap; at the second call what the first one said."""
        if self.ended is None:
            cpu_ms = None
            if self.cpu_s is not None:
                with suppress(OSError):
                    cpu_ms = self.cpu_s() * 1000
            self.kill()
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            wall_ms = (time.monotonic() - self.start_s) * 1000
            if self.cpu_s is None:
                cpu_ms = (usage.ru_utime + usage.ru_stime) * 1000
            self.ended = Ended(self.process.returncode, wall_ms, cpu_ms)
        return self.ended


class LocalConversation:
    """A Python program in a process of this machine and a socket to it."""

    def __init__(self, started: Started, channel: socket.socket, tag: str) -> None:
        self.tag = tag
        self._started = started
        self._channel = channel
        self._up = False

    def started(self) -> None:
        """See `Conversation`."""
        if self._up:
            return
        self._up = True
        try:
            self.receive(1, start_until_s())
        except (ChannelClosed, TimeoutError) as error:
            raise JailFailed("Python did not start in the jail") from error

    def send(self, data: bytes, until_s: float) -> None:
        """See `Conversation`."""
        try:
            self._channel.settimeout(max(0.001, until_s - time.monotonic()))
            self._channel.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosed("the program in the jail is gone") from error

    def receive(self, size: int, until_s: float) -> bytes:
        """See `Conversation`."""
        self.started()
        parts, missing = [], size
        while missing:
            try:
                self._channel.settimeout(max(0.001, until_s - time.monotonic()))
                part = self._channel.recv(min(missing, 1 << 16))
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed("the program in the jail is gone") from error
            if not part:
                raise ChannelClosed("the program in the jail is gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def end(self) -> Ended:
        """See `Conversation`."""
        ended = self._started.end()
        self._channel.close()
        return ended


class LocalJail(Jail):
    """What starts processes on this machine; a subclass says what stands around them."""

    @abstractmethod
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
        """Start `argv` with its limits set. `keep` are descriptors that it inherits, `streams` its standard ones; `stack`
        is closed when the run is over."""

    @abstractmethod
    def _own_rules(self, limits: Limits) -> Sequence[tuple[int, int, int]]:
        """Limits that Python in a conversation sets itself: kind, soft and hard limit, as `resource.setrlimit` takes them."""

    def run(self, job: Job, limits: Limits) -> Ran:
        """See `Jail`."""
        argv = job.argv or (_PYTHON, "-S", "-E", "-s", "-B", "main.py")
        with ExitStack() as stack:
            stdin = _filled(job.stdin, stack)
            outputs, inner = [], []
            for _ in range(2):
                read, write = os.pipe()
                outputs.append(read)
                inner.append(write)
                stack.callback(os.close, read)
            try:
                started = self._start(argv, limits, job=job, keep=(), streams=(stdin, inner[0], inner[1]), stack=stack)
            finally:
                for write in inner:
                    os.close(write)
            try:
                status = _read_out(started, outputs, limits, texts := (bytearray(), bytearray()))
            finally:
                ended = started.end()
            _drain(outputs, limits, texts)
            if not started.confirm():
                said = texts[1].decode(errors="replace").strip()[-300:]
                raise JailFailed(f"the jail {self.name} did not start the program: {said or ended.returncode}")
        return _ran(status, ended, texts, limits, self.guarantees(limits))

    def converse(self, code: CodeType, limits: Limits) -> LocalConversation:
        """See `Jail`."""
        body = marshal.dumps(code)
        outer, inner = socket.socketpair()
        nothing = os.open(os.devnull, os.O_RDWR)
        tag = secrets.token_hex(8)
        rules = ";".join(",".join(map(str, rule)) for rule in self._own_rules(limits))
        argv = (_PYTHON, "-I", "-S", "-B", "-c", _BOOT, str(inner.fileno()), tag, rules)
        try:
            with ExitStack() as stack:
                streams = (nothing, nothing, nothing)
                started = self._start(argv, limits, job=None, keep=(inner.fileno(),), streams=streams, stack=stack)
        except BaseException:
            outer.close()
            raise
        finally:
            inner.close()
            os.close(nothing)
        conversation = LocalConversation(started, outer, tag)
        try:
            conversation.send(f"{len(body):08x}".encode() + body, start_until_s())
        except (ChannelClosed, TimeoutError) as error:
            conversation.end()
            raise JailFailed(f"Python did not start in the jail {self.name}") from error
        except BaseException:
            conversation.end()
            raise
        return conversation


def rules(limits: Limits, *, processes: int | None) -> tuple[tuple[int, int, int], ...]:
    """Kind, soft and hard value of the system's limits; `processes` counts those of the user in the namespace, threads too."""
    files = limits.open_files
    own = () if processes is None else ((resource.RLIMIT_NPROC, processes, processes),)
    return (
        *own,
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),  # one second to die of SIGXCPU
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, files, files),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
    )


def set_limits(pid: int, limits: Limits, *, processes: int | None) -> None:
    """Limit a process and what it will start. Raises `JailFailed` where it is gone already."""
    try:
        for kind, soft, hard in rules(limits, processes=processes):
            resource.prlimit(pid, kind, (soft, hard))
    except ProcessLookupError as error:
        raise JailFailed("the process was gone before its limits were set") from error


def processes_are_capped(limits: Limits, *, filtered: bool) -> bool:
    """Whether the number of processes is bounded: by the filter of system calls, or by the system, which lets root off."""
    return (filtered and limits.processes == 0) or os.getuid() != 0


def filled_pipe(data: bytes, stack: ExitStack) -> int:
    """A descriptor to read `data` from; at most what a pipe holds."""
    read, write = os.pipe()
    stack.callback(os.close, read)
    with os.fdopen(write, "wb") as file:
        file.write(data)
    return read


def _filled(data: bytes, stack: ExitStack) -> int:
    """A descriptor to read `data` of any length from."""
    handle = os.memfd_create("input") if data else os.open(os.devnull, os.O_RDONLY)
    stack.callback(os.close, handle)
    if data:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(data)
        os.lseek(handle, 0, os.SEEK_SET)
    return handle


def filled_file(data: bytes, stack: ExitStack) -> int:
    """As `filled_pipe`, of any length."""
    return _filled(data, stack) if data else filled_pipe(b"", stack)


def _read_out(started: Started, outputs: Sequence[int], limits: Limits, texts: tuple[bytearray, bytearray]) -> Status:
    """Read both outputs until the program ends, or a limit does it."""
    until_s = started.start_s + limits.wall_s
    handle = os.pidfd_open(started.process.pid)
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(handle, selectors.EVENT_READ, None)
            for descriptor, text in zip(outputs, texts, strict=True):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ, text)
            while (left_s := until_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    if key.data is None:
                        return Status.FINISHED
                    part = os.read(key.fd, 1 << 16)
                    key.data.extend(part[: limits.output_bytes + 1 - len(key.data)])
                    if len(key.data) > limits.output_bytes:
                        return Status.OUTPUT_EXCEEDED
                    if not part:
                        selector.unregister(key.fd)
            return Status.TIMED_OUT
        finally:
            os.close(handle)


def _drain(outputs: Sequence[int], limits: Limits, texts: tuple[bytearray, bytearray]) -> None:
    """What was written last and not read yet; the writers are dead."""
    for descriptor, text in zip(outputs, texts, strict=True):
        with suppress(BlockingIOError):
            while len(text) <= limits.output_bytes and (part := os.read(descriptor, 1 << 16)):
                text.extend(part)


def _ran(
    status: Status,
    ended: Ended,
    texts: tuple[bytearray, bytearray],
    limits: Limits,
    guarantees: frozenset[Guarantee],
) -> Ran:
    code = ended.returncode if ended.returncode >= 0 else 128 - ended.returncode
    if status is Status.FINISHED and any(len(text) > limits.output_bytes for text in texts):
        status = Status.OUTPUT_EXCEEDED
    if status is Status.FINISHED and code > 128:
        over = code - 128 == signal.SIGXCPU or (code - 128 == signal.SIGKILL and ended.wall_ms >= limits.cpu_s * 1000)
        status = Status.CPU_EXCEEDED if over else Status.KILLED
    stdout, stderr = (bytes(text[: limits.output_bytes]) for text in texts)
    own = code if status in (Status.FINISHED, Status.KILLED, Status.CPU_EXCEEDED) else None
    return Ran(status, own, stdout, stderr, ended.wall_ms, ended.cpu_ms, guarantees)


def read_line(descriptor: int, until_s: float, most: int = 4096) -> bytes:
    """Up to a line break, or what came before the other side closed. Raises `JailFailed` when the time is up."""
    out = b""
    while len(out) < most and not out.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            raise JailFailed("the jail did not come up in time")
        part = os.read(descriptor, 1 if out else 1 << 12)
        if not part:
            break
        out += part
    return out


def processor_clock(pid: int) -> int:
    """The clock of a process's user and system time, for `time.clock_gettime` (clock_getcpuclockid(3), as Linux makes it)."""
    return (~pid << 3) | 2


def start_until_s() -> float:
    """When to give up a start, by `time.monotonic()`."""
    return time.monotonic() + _START_S
