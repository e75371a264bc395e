"""One candidate in its jail, as the judge sees it: something that answers calls with plain data, late, or not at all."""

from __future__ import annotations

import functools
import json
import marshal
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import CodeType
from typing import Any

from coderl_generator.errors import ChannelClosed
from coderl_generator.jail import Jail, Limits
from coderl_generator.jail_types import Conversation

from . import plain

_NONCE_BYTES = 16
_LETTERS = 4096
"""Of a message beside its data: the type and the text of an exception."""


class Kind(StrEnum):
    """What became of a call."""

    OK = "ok"
    RAISED = "raised"
    LATE = "late"
    NOT_PLAIN = "not_plain"
    GONE = "gone"
    """The program ended, or wrote something else to the channel."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one call."""

    kind: Kind
    text: str = ""
    """`OK`: the data as tagged JSON, checked; otherwise the text of the exception or the reason."""
    type_name: str = ""
    """Of the exception."""


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """What one program and its tests may use. Wall times are longer than processor times, for busy machines."""

    call_cpu_s: float = 2.0
    """One call, or one test around its calls; the import of the program has as much."""
    call_wall_s: float = 8.0
    program_cpu_s: int = 10
    program_wall_s: float = 40.0
    """All tests of one program together; those left then have timed out."""
    memory_bytes: int = 1 << 30
    answer_bytes: int = plain.MOST_BYTES

    @classmethod
    def of(cls, call_cpu_s: float) -> JudgeLimits:
        """Those of one call, and the others in the proportions of the defaults."""
        return cls(
            call_cpu_s=call_cpu_s,
            call_wall_s=4 * call_cpu_s,
            program_cpu_s=math.ceil(5 * call_cpu_s),
            program_wall_s=20 * call_cpu_s,
        )

    def jail(self) -> Limits:
        """The limits of the candidate's jail: no further process, 16 MiB of files."""
        return Limits(wall_s=self.program_wall_s, cpu_s=self.program_cpu_s, memory_bytes=self.memory_bytes)


class Candidate:
    """A program in a jail of its own. It is started again after a call that ended it, while there is time."""

    def __init__(self, jail: Jail, program: str, setup: str, limits: JudgeLimits) -> None:
        self._jail = jail
        self._job = {"plain": code_of("plain"), "program": program, "setup": setup, "cpu_s": limits.call_cpu_s}
        self._limits = limits
        self._talk: Conversation | None = None
        self._end_s = time.monotonic() + limits.program_wall_s
        self._cpu_ms: float | None = 0.0
        self.compiled = True
        self._broken: Answer | None = None
        """What every call is answered with, once the program cannot be loaded."""

    def load(self) -> Answer | None:
        """Start the program; None = it answers calls. Raises `JailFailed`."""
        if self._broken is None and self._talk is None:
            self._broken = self._load()
            if self._broken is not None:
                self.close()
        return self._broken

    def _load(self) -> Answer | None:
        if self._until_s() is None:
            return Answer(Kind.LATE, "the time of the program was used up")
        self._talk = self._jail.converse(code_of("inside_candidate"), self._limits.jail())
        self._send(self._job)
        self._talk.started()
        until_s = self._until_s() or time.monotonic()
        said = self._receive(b"0" * _NONCE_BYTES, until_s)
        if isinstance(said, Answer):
            return Answer(said.kind, f"while it was loaded: {said.text}")
        if len(said) != 3 or said[0] != "compiled":
            return Answer(Kind.GONE, "it wrote something else to the channel")
        if said[1] is not None:
            self.compiled = False
            return Answer(Kind.RAISED, _short(said[1]), "SyntaxError")
        return None if said[2] is None else _exception(said[2])

    def evaluate(self, source: str) -> Answer:
        """The value of an expression among the program's names. Raises `JailFailed`, before the program could run only."""
        return self._ask({"source": source})

    def call(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Answer:
        """What a function of the program returns. Raises as `evaluate` does."""
        return self._ask({"name": name, "args": args, "kwargs": dict(kwargs)})

    def _ask(self, what: Mapping[str, Any]) -> Answer:
        broken = self.load()
        if broken is not None:
            return broken
        until_s = self._until_s()
        if until_s is None:
            self.close()
            return Answer(Kind.LATE, "the time of the program was used up")
        nonce = os.urandom(_NONCE_BYTES // 2).hex().encode()
        try:
            self._send({**what, "nonce": nonce, "cpu_s": self._limits.call_cpu_s})
            said = self._receive(nonce, until_s)
        except ChannelClosed:
            said = Answer(Kind.GONE, "the program ended itself")
        answer = said if isinstance(said, Answer) else self._answer(said)
        if answer.kind is Kind.GONE or isinstance(said, Answer):
            self.close()  # the next call starts it again
        return answer

    def _answer(self, said: list[Any]) -> Answer:
        if said[0] == "ok" and len(said) == 2:
            try:
                plain.check(said[1])
            except plain.NotPlain as error:
                return Answer(Kind.NOT_PLAIN, str(error))
            return Answer(Kind.OK, json.dumps(said[1], separators=(",", ":")))
        return _exception(said)

    def close(self) -> None:
        """End the process; may be called twice."""
        if self._talk is not None:
            used = self._talk.end().cpu_ms
            self._cpu_ms = None if used is None or self._cpu_ms is None else self._cpu_ms + used
            self._talk = None

    @property
    def cpu_ms(self) -> float | None:
        """Processor time of the processes that were closed."""
        return self._cpu_ms

    def _until_s(self) -> float | None:
        """When the next answer is late; None where the program's time is used up."""
        now_s = time.monotonic()
        return None if now_s >= self._end_s else min(self._end_s, now_s + self._limits.call_wall_s)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._talk is not None
        with suppress(TimeoutError):  # one that does not read is found when it does not answer
            self._talk.send(framed(message), time.monotonic() + self._limits.call_wall_s)

    def _receive(self, nonce: bytes, until_s: float) -> list[Any] | Answer:
        assert self._talk is not None
        try:
            if self._talk.receive(_NONCE_BYTES, until_s) != nonce:
                return Answer(Kind.GONE, "it wrote something else to the channel")
            size = int(self._talk.receive(8, until_s), 16)
            if not 0 <= size <= self._limits.answer_bytes + _LETTERS:
                return Answer(Kind.GONE, "it wrote something else to the channel")
            said = json.loads(self._talk.receive(size, until_s))
        except TimeoutError:
            return Answer(Kind.LATE, f"no answer within {self._limits.call_wall_s:g} s")
        except ChannelClosed:
            return Answer(Kind.GONE, "the program ended itself")
        except (ValueError, RecursionError):
            return Answer(Kind.GONE, "it wrote something else to the channel")
        if not isinstance(said, list) or not said:
            return Answer(Kind.GONE, "it wrote something else to the channel")
        return said


def _exception(said: Any) -> Answer:
    """What the inside says instead of data."""
    if isinstance(said, list) and said and said[0] == "late":
        return Answer(Kind.LATE, "its processor time was used up")
    if isinstance(said, list) and len(said) == 3 and said[0] == "raised":
        return Answer(Kind.RAISED, _short(said[2]), _short(said[1]))
    if isinstance(said, list) and len(said) == 2 and said[0] == "not_plain":
        return Answer(Kind.NOT_PLAIN, _short(said[1]))
    return Answer(Kind.GONE, "it wrote something else to the channel")


def _short(text: Any) -> str:
    return str(text)[:300] if isinstance(text, str) else "no text"


def framed(message: Any) -> bytes:
    """A message for the inside: eight hexadecimal digits of length and `marshal`'s form."""
    body = marshal.dumps(message)
    return f"{len(body):08x}".encode() + body


@functools.cache
def code_of(module: str) -> CodeType:
    """The code of a file beside this one, to be run inside."""
    path = Path(__file__).with_name(f"{module}.py")
    return compile(path.read_text(encoding="utf-8"), f"<{module}>", "exec", dont_inherit=True)
