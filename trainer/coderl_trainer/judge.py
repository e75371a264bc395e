"""The judge: whether a program passes the tests of its task, decided where the program cannot reach.

A program runs in a jail of its own and gets inputs only: calls, one after another, each with its own time limit. It answers
with plain data (`coderl_trainer.plain`) on a descriptor of its own, in a frame that repeats the nonce of the call. Expected
values, setup and comparisons live in a second jail, which the program never sees; the objects compared there are of exact
builtin types. Where a test only says which literal a call returns and the answer is short, that comparison is made right here.

Covered. An exit status, standard output, files, and all that a program does to its own interpreter (frames, heap, builtins,
test libraries, atexit, the runner itself) count for nothing: what it may forge is its own answer, and that has to be right. A
crash, an endless loop, a flood or a forged frame ends in a failed test of that program, and the next program starts fresh. A
judge that fails itself says `Ungraded`: tried twice, never a reward.

Not covered. A program may learn the inputs of earlier calls (not those of later ones), and answers that are right for the
tested inputs only are right here: that is what hidden tests are for. Setup that direct calls need is seen by the program.
Arguments are copied: what a call does to them is not seen by a live test. Nor is anything covered that the jail does not
(`jail_bwrap`).
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

from coderl_generator.errors import ChannelClosed, JailFailed, JailUnavailable
from coderl_generator.jail import Guarantee, Jail, open_jail

from . import plain
from .candidate import Answer, Candidate, JudgeLimits, Kind
from .errors import JailMissing, TooManyUngraded
from .plans import CALL, Plan, PlannedTest, plan
from .tester import Run, Testers
from .types import Task
from .verdicts import Cause, Judgement, Outcome, TestResult, Ungraded

__all__ = ["Cause", "Judge", "JudgeLimits", "Judgement", "Outcome", "TestResult", "Ungraded", "open_judge"]

NEEDED: Final = frozenset(
    {
        Guarantee.NO_NETWORK,
        Guarantee.FILES_HIDDEN,
        Guarantee.FILES_READ_ONLY,
        Guarantee.PROCESSES_HIDDEN,
        Guarantee.MEMORY_CAPPED,
        Guarantee.CPU_CAPPED,
        Guarantee.KILLED_AS_A_GROUP,
    }
)
"""Without these, learning from verdicts is refused unless somebody says in words why it is wanted."""
_ENOUGH: Final = 20
"""Programs before the share of ungraded ones says something."""
_SHORT: Final = 2000
"""Characters of an answer that is compared in this process: too few to keep it busy, whatever a program makes of them."""
_OUTCOMES: Final[Mapping[Kind, Outcome]] = MappingProxyType(
    {
        Kind.RAISED: Outcome.RAISED,
        Kind.LATE: Outcome.TIMED_OUT,
        Kind.NOT_PLAIN: Outcome.FAILED,
        Kind.GONE: Outcome.FAILED,
    }
)


class _Broken(Exception):
    """The task cannot be judged, as it shows when its tests run."""


class Judge:
    """Judges programs in parallel; safe to use from several threads. Close it, or use it as a context manager.

    Raises `JailMissing` where the jail does not give what `NEEDED` lists and `unjailed_because` is empty.
    """

    def __init__(
        self,
        jail: Jail,
        limits: JudgeLimits | None = None,
        parallel: int = 2,
        *,
        unjailed_because: str = "",
        ungraded_limit: float = 0.1,
    ) -> None:
        self.jail = jail
        self._limits = limits or JudgeLimits()
        self.guarantees = jail.guarantees(self._limits.jail())
        missing = NEEDED - self.guarantees
        if missing and not unjailed_because.strip():
            raise JailMissing(
                f"The jail {jail.name!r} does not give {', '.join(sorted(missing))}. Use one that does (apt-get install "
                "bubblewrap, or pip install 'coderl[jail]'), or say in words why programs may run without (unjailed_because)."
            )
        self._ungraded_limit = ungraded_limit
        self._testers = Testers(jail, self._limits)
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="judge")
        self._lock = threading.Lock()
        self._seen = self._failed = 0

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that are kept."""
        self._pool.shutdown(cancel_futures=True)
        self._testers.close()

    def judge(self, task: Task, completion: str) -> Judgement | Ungraded:
        """Blocks for the time of the tests. A grader that fails is tried once more."""
        answer = self._try(task, completion)
        if isinstance(answer, Ungraded) and answer.cause is Cause.GRADER:
            answer = self._try(task, completion)
        with self._lock:
            self._seen += 1
            self._failed += isinstance(answer, Ungraded) and answer.cause is Cause.GRADER
        return answer

    def judge_all(
        self, pairs: Sequence[tuple[Task, str]], told: Callable[[int, int], None] = lambda _done, _of: None
    ) -> list[Judgement | Ungraded]:
        """All pairs of task and completion, in their order; `told` hears how many are done, of how many.

        Raises `TooManyUngraded` once more than `ungraded_limit` of all programs so far (20 at least) failed in the grader.
        """
        lock, done = threading.Lock(), 0

        def one(pair: tuple[Task, str]) -> Judgement | Ungraded:
            nonlocal done
            answer = self.judge(*pair)
            with lock:
                done += 1
                told(done, len(pairs))
            return answer

        futures = [self._pool.submit(one, pair) for pair in pairs]
        answers: list[Judgement | Ungraded] = []
        try:
            for future in futures:
                answers.append(future.result())
                self._stop_at_noise(answers)
        finally:
            for future in futures:
                future.cancel()
        return answers

    @property
    def ungraded(self) -> tuple[int, int]:
        """How many programs the grader failed on, and how many it saw."""
        with self._lock:
            return self._failed, self._seen

    def _stop_at_noise(self, answers: Sequence[Judgement | Ungraded]) -> None:
        failed, seen = self.ungraded
        if seen >= _ENOUGH and failed > self._ungraded_limit * seen:
            last = next((one.reason for one in reversed(answers) if isinstance(one, Ungraded)), "not known")
            raise TooManyUngraded(f"{failed} of {seen} programs could not be judged; the last reason: {last}.")

    def _try(self, task: Task, completion: str) -> Judgement | Ungraded:
        planned = plan(task)
        if planned.refusal:
            return Ungraded(planned.refusal, Cause.TASK)
        program = task.program(completion)
        if "\0" in program:
            program = program.replace("\0", "\N{REPLACEMENT CHARACTER}")
        candidate = Candidate(self.jail, program, planned.candidate_setup, self._limits)
        try:
            broken = candidate.load()
            results = [_result(broken)] * len(planned.tests) if broken is not None else self._tests(planned, candidate)
        except _Broken as error:
            return Ungraded(str(error), Cause.TASK)
        except JailFailed as error:
            return Ungraded(str(error), Cause.GRADER)
        finally:
            candidate.close()
        seen = len(task.visible_tests)
        visible, hidden = tuple(results[:seen]), tuple(results[seen:])
        return Judgement(candidate.compiled, visible, hidden, candidate.cpu_ms, self.guarantees)

    def _tests(self, planned: Plan, candidate: Candidate) -> list[TestResult]:
        """Direct calls and what is compared here first, then everything in the process of the tests."""
        results: dict[int, TestResult] = {}
        jobs: list[tuple[int, dict[str, Any]]] = []
        for number, test in enumerate(planned.tests):
            answers = _asked(test, candidate)
            bad = next((answer for answer in answers if answer.kind is not Kind.OK), None)
            if bad is not None:
                results[number] = _result(bad)
                continue
            if test.wanted and not planned.setup and all(len(answer.text) <= _SHORT for answer in answers):
                results[number] = _compared(test, answers)
                continue
            values = {CALL.format(at): answer.text for at, answer in enumerate(answers)}
            stubs = planned.names if test.live else ()
            job = {"source": test.source, "values": values, "stubs": stubs, "entry_point": planned.entry_point}
            jobs.append((number, job))
        if jobs:
            self._compare(planned, jobs, candidate, results)
        return [results[number] for number in range(len(planned.tests))]

    def _compare(
        self, planned: Plan, jobs: list[tuple[int, dict[str, Any]]], candidate: Candidate, results: dict[int, TestResult]
    ) -> None:
        while jobs:
            run = self._run(planned, jobs, candidate)
            if run.setup_error is not None:
                raise _Broken(f"the setup of the tests raises {run.setup_error}")
            for number, (outcome, message) in run.results.items():
                if outcome == "unsendable":
                    raise _Broken(f"test {number + 1} passes what is no plain data: {message}")
                results[number] = TestResult(Outcome(outcome), message)
            jobs = [(number, job) for number, job in jobs if number not in run.results]
            if jobs:  # the first one left ended its process, or did not come back
                results[jobs[0][0]] = TestResult(
                    Outcome.TIMED_OUT if run.hung else Outcome.FAILED, "its comparison did not end"
                )
                jobs = jobs[1:]
            results.update({number: _result(answer) for number, answer in run.lost.items()})

    def _run(self, planned: Plan, jobs: Sequence[tuple[int, dict[str, Any]]], candidate: Candidate) -> Run:
        tester = self._testers.take()
        try:
            run = tester.run(planned.setup, jobs, candidate.call)
        except BaseException as error:
            self._testers.drop(tester)
            if isinstance(error, ChannelClosed | TimeoutError | ValueError):
                raise JailFailed("the process of the tests is gone") from error
            raise
        if run.hung:
            self._testers.drop(tester)
        else:
            self._testers.give_back(tester)
        return run


def _asked(test: PlannedTest, candidate: Candidate) -> list[Answer]:
    """The answers to a test's direct calls, up to the first that is none."""
    answers: list[Answer] = []
    for source in test.calls:
        answers.append(candidate.evaluate(source))
        if answers[-1].kind is not Kind.OK:
            break
    return answers


def _compared(test: PlannedTest, answers: Sequence[Answer]) -> TestResult:
    """As the process of the tests would say it."""
    try:
        values = [plain.decode(answer.text) for answer in answers]
        if all(value == ast.literal_eval(literal) for value, literal in zip(values, test.wanted, strict=True)):
            return TestResult(Outcome.PASSED, "")
        return TestResult(Outcome.FAILED, f"got {', '.join(map(repr, values))}"[:300])
    except ValueError as error:  # `NotPlain`, or an int longer than this interpreter writes
        return TestResult(Outcome.FAILED, f"{type(error).__name__}: {error}")


def _result(answer: Answer) -> TestResult:
    text = f"{answer.type_name}: {answer.text}" if answer.type_name else answer.text
    return TestResult(_OUTCOMES[answer.kind], text)


def open_judge(
    backend: str = "bwrap",
    limits: JudgeLimits | None = None,
    parallel: int = 2,
    *,
    endpoint: str = "",
    unjailed_because: str = "",
    ungraded_limit: float = 0.1,
) -> Judge:
    """A judge with the jail of that name; where it cannot be had and `unjailed_because` says why, one without.

    Raises `JailMissing`, with what to install.
    """
    try:
        jail = open_jail(backend, endpoint=endpoint, unjailed_because=unjailed_because)
    except JailUnavailable as error:
        if not unjailed_because.strip():
            raise JailMissing(str(error)) from error
        jail = open_jail("none", unjailed_because=unjailed_because)
    return Judge(jail, limits, parallel, unjailed_because=unjailed_because, ungraded_limit=ungraded_limit)
