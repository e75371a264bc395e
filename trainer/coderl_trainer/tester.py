"""The process of the tests, as the judge sees it: a jail of its own that forks for each program and outlives many."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coderl_generator.errors import ChannelClosed, JailFailed
from coderl_generator.jail import Jail, Limits
from coderl_generator.jail_types import Conversation

from .candidate import Answer, JudgeLimits, Kind, code_of, framed
from .plain import NotPlain, build, parse

_MOST = 16 << 20
"""Bytes of one message."""
_ANSWERS = (Kind.OK, Kind.RAISED)
Call = Callable[[str, tuple[Any, ...], Mapping[str, Any]], Answer]


class Tester:
    """One process of tests. For one thread at a time."""

    def __init__(self, talk: Conversation, limits: JudgeLimits) -> None:
        self._talk = talk
        self._limits = limits
        self._owed = False
        """The last job has all its results, but did not say yet that it is over."""
        self._talk.send(framed(code_of("plain")), time.monotonic() + limits.call_wall_s)

    def run(self, setup: Sequence[str], tests: Sequence[tuple[int, Mapping[str, Any]]], call: Call) -> Run:
        """Run tests; `call` asks the candidate. Raises `JailFailed` where the process fails before the first test."""
        limits = self._limits
        job = {
            "setup": tuple(setup),
            "tests": [(number, dict(test)) for number, test in tests],
            "cpu_s": limits.call_cpu_s,
            "process_cpu_s": math.ceil(limits.call_cpu_s * (len(tests) + 1)),
        }
        self._talk.send(framed(job), time.monotonic() + limits.call_wall_s)
        run = Run()
        while len(run.results) < len(tests):
            try:
                message = self._message(time.monotonic() + limits.call_wall_s)
            except TimeoutError:
                if not run.set_up:
                    raise JailFailed("the setup of the tests did not end in time") from None
                run.hung = True
                return run
            if message[0] == "over":
                if not self._owed:
                    return run
                self._owed = False
            elif message[0] == "setup":
                run.set_up, run.setup_error = True, message[1]
            elif message[0] == "test":
                run.results[message[1]] = (message[2], message[3])
            else:
                answer = _asked(message, call)
                if answer.kind not in _ANSWERS:
                    run.lost.setdefault(tests[len(run.results)][0], answer)
                self._talk.send(framed(_told(answer)), time.monotonic() + limits.call_wall_s)
        self._owed = True
        return run

    def _message(self, until_s: float) -> list[Any]:
        size = int(self._talk.receive(8, until_s), 16)
        if size > _MOST:
            raise JailFailed("the process of the tests sends too much")
        said = json.loads(self._talk.receive(size, until_s))
        assert isinstance(said, list)
        return said

    def close(self) -> None:
        """End the process."""
        self._talk.end()


class Run:
    """What one job came to."""

    def __init__(self) -> None:
        self.set_up = False
        self.setup_error: str | None = None
        self.results: dict[int, tuple[str, str]] = {}
        """Outcome and message by the number of the test; what ended the process has none."""
        self.lost: dict[int, Answer] = {}
        """The candidate's first answer that was none, by the test that asked: that one has failed, whatever else it says."""
        self.hung = False
        """The process has to be ended: a test does not come back."""


def _asked(message: list[Any], call: Call) -> Answer:
    try:
        args, kwargs = build(parse(message[2])), build(parse(message[3]))
    except NotPlain as error:
        raise JailFailed("the process of the tests sends a call that cannot be read") from error
    return call(message[1], args, kwargs)


def _told(answer: Answer) -> tuple[str, ...]:
    if answer.kind is Kind.OK:
        return "ok", answer.text
    return ("raised", answer.type_name, answer.text) if answer.kind is Kind.RAISED else ("gone",)


class Testers:
    """Processes of tests, kept for the next program. Safe to use from several threads."""

    def __init__(self, jail: Jail, limits: JudgeLimits) -> None:
        self._jail = jail
        self._limits = limits
        self._idle: queue.SimpleQueue[Tester] = queue.SimpleQueue()
        self._all: set[Tester] = set()
        self._lock = threading.Lock()
        # A jailed process dies with the thread that started it: this thread lives as long as they may.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="tester")

    def take(self) -> Tester:
        """An idle one, else a new one; give it back or `drop` it. Raises `JailFailed`."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            tester = self._starter.submit(self._start).result()
            with self._lock:
                self._all.add(tester)
            return tester

    def give_back(self, tester: Tester) -> None:
        """It can be used again."""
        self._idle.put(tester)

    def drop(self, tester: Tester) -> None:
        """It cannot be used again."""
        with self._lock:
            self._all.discard(tester)
        tester.close()

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            testers, self._all = self._all, set()
        for tester in testers:
            tester.close()
        self._starter.shutdown()

    def _start(self) -> Tester:
        # It lives for many programs and only waits; each fork limits its own processor time.
        limits = Limits(wall_s=math.inf, cpu_s=86_400, memory_bytes=self._limits.memory_bytes, processes=8)
        talk = self._jail.converse(code_of("inside_tests"), limits)
        try:
            return Tester(talk, self._limits)
        except (ChannelClosed, TimeoutError) as error:
            talk.end()
            raise JailFailed("the process of the tests did not start") from error
