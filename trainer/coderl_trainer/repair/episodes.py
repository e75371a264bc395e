"""One run of an agent on one task: a copy, the agent in its jail, what it left, the tests, the reward."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from coderl_generator.errors import JailFailed
from coderl_trainer.errors import GitFailed
from coderl_trainer.verdicts import Cause, Ungraded

from .activity import Activity, activity_of
from .agent_jail import AgentEnded, AgentJail, AgentStatus
from .agents import Agent
from .chat_wire import Sampling, Turn
from .copies import Prepared, prepare, working_copy
from .grading import Grade, RepairGrader
from .proxy import Proxy, recorded
from .rewards import Finding, changed_paths, findings_of, likeness_of, parts_of, reward_of
from .settings import RepairRewards
from .tasks import RepairTask
from .trees import Found, TreeLimits, read_tree


@dataclass(frozen=True, slots=True)
class Episode:
    """One run and what it was worth."""

    task: RepairTask
    grade: Grade | Ungraded
    reward: float | None
    """None = the harness failed; nothing is known of the agent then."""
    parts: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    findings: tuple[Finding, ...] = ()
    changed: tuple[str, ...] = ()
    """Paths that differ from the base."""
    diff: str = ""
    turns: tuple[Turn, ...] = ()
    activity: Activity = field(default_factory=Activity)
    ended: AgentEnded | None = None

    @property
    def solved(self) -> bool | None:
        """Every hidden test passes and nothing forfeits it; None = not known."""
        if isinstance(self.grade, Ungraded):
            return None
        return self.grade.solved and not any(one.forfeits for one in self.findings)

    @property
    def partial(self) -> float | None:
        """Share of the failing tests that pass now, 0 where it is forfeited; None = not known."""
        if isinstance(self.grade, Ungraded):
            return None
        return 0.0 if any(one.forfeits for one in self.findings) else self.grade.score

    @property
    def cut_off(self) -> bool:
        """Whether the token budget ended an answer."""
        return any(turn.cut_off for turn in self.turns)


class Workshop:
    """Runs agents on tasks, several at a time. Use it as a context manager."""

    def __init__(
        self, grader: RepairGrader, jail: AgentJail, proxy: Proxy, rewards: RepairRewards | None = None, parallel: int = 2
    ) -> None:
        self._grader, self._jail, self._proxy = grader, jail, proxy
        self.rewards = rewards or RepairRewards()
        self._folder = tempfile.TemporaryDirectory(prefix="coderl-harness-", ignore_cleanup_errors=True)
        self._prepared: dict[str, Prepared] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="agent")

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def prepared(self, task: RepairTask) -> Prepared:
        """The harness's repository of a task; made once. Raises `GitFailed`."""
        with self._lock:
            if task.id not in self._prepared:
                self._prepared[task.id] = prepare(task, Path(self._folder.name) / f"{len(self._prepared)}.git")
            return self._prepared[task.id]

    def all(
        self,
        tasks: Sequence[RepairTask],
        agent: Agent,
        model: str,
        sampling: Callable[[int], Sampling | None] = lambda _number: None,
        told: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> list[Episode]:
        """An episode of each task, in their order; a task may stand there several times. `sampling` of each by its number.

        Raises `AgentUnusable` where the command cannot be started at all.
        """
        futures = [self._pool.submit(self.one, task, agent, model, sampling(number)) for number, task in enumerate(tasks)]
        episodes: list[Episode] = []
        try:
            for future in futures:
                episodes.append(future.result())
                told(len(episodes), len(futures))
        finally:
            for future in futures:
                future.cancel()
        return episodes

    def one(self, task: RepairTask, agent: Agent, model: str, sampling: Sampling | None = None) -> Episode:
        """Run the agent once. Raises `AgentUnusable`; what else fails is an episode that is `Ungraded`."""
        try:
            prepared = self.prepared(task)
            with working_copy(prepared) as copy:
                with recorded(self._proxy, model, sampling) as (key, kept):

                    def argv(places: Mapping[str, str]) -> Sequence[str]:
                        return agent.argv({"task": task.problem_statement, **places})

                    ended = self._jail.run(argv, copy.repository, copy.out, self._proxy.socket, key)
                found = read_tree(copy.repository, TreeLimits(bytes=self._jail.limits.folder_bytes))
                if ended.status is AgentStatus.TOO_LARGE:
                    found = replace(found, too_large=True)
                about: dict[str, Any] = {
                    "turns": tuple(kept[0].turns),
                    "activity": activity_of(kept[0].turns),
                    "ended": ended,
                }
                if why := _harness_fault(kept[0].broken, kept[0].requests, ended):
                    return Episode(task, Ungraded(why, Cause.GRADER), None, **about)
                return self._graded(prepared, found, copy.history_findings(), about)
        except (GitFailed, JailFailed, OSError) as error:
            return Episode(task, Ungraded(f"{error}", Cause.GRADER), None)

    def _graded(self, prepared: Prepared, found: Found, history: tuple[Finding, ...], about: Mapping[str, Any]) -> Episode:
        task, base, left = prepared.task, prepared.base_tree, found.tree
        findings = (*findings_of(task, base, found), *history)
        grade = self._grader.grade(task, left, base, prepared.fixed_tree)
        about = {**about, "findings": findings, "changed": changed_paths(base, left), "diff": prepared.diff(left)}
        if isinstance(grade, Ungraded):
            return Episode(task, grade, None, **about)
        likeness = likeness_of(base, left, prepared.fixed_tree)
        reward = reward_of(self.rewards, grade, likeness, findings)
        return Episode(task, grade, reward, parts_of(self.rewards, grade, likeness, findings), **about)


def _harness_fault(broken: str, requests: int, ended: AgentEnded) -> str:
    """Why a run says nothing about its agent; empty = it does."""
    if broken:
        return broken
    if not requests and ended.returncode:
        return f"the agent ended with status {ended.returncode} before it asked the model anything: {ended.said.strip()[-300:]}"
    return ""
