"""What a repair is worth, and what is worth naming about how it was made. Pure.

    reward = s + w·min(a, cap)/cap      where s > 0, else 0;      0 where a finding forfeits it

s is 1 where every hidden test passes, else 0 (`fractional`: the share of `Grade.score`, which is 0 for an untouched
repository). a is the likeness of the changed lines to those of the right fix, file by file: it only breaks ties between repairs
that the tests reward, is capped so that copying the fix to the letter is no aim, and can never make up for a test. On whole
diffs a comment in the right place came out above a right repair written differently (CodeRepairRL); here a comment is worth 0.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from coderl_trainer.reward_parts import alike, changed_lines

from .grading import Grade
from .settings import RepairRewards
from .tasks import RepairTask
from .trees import Found, Tree


class Finding(StrEnum):
    """What was found in a repository that an agent left."""

    TESTS_CHANGED = "tests_changed"
    """A protected file has another content."""
    TESTS_REMOVED = "tests_removed"
    RUNNER_CHANGED = "runner_changed"
    """A file that a test runner or Python reads before any test was added or changed."""
    TOO_LARGE = "too_large"
    """More than the harness reads."""
    NAMES_TESTS = "names_tests"
    """New lines ask whether, or which, tests run."""
    FILES_REMOVED = "files_removed"
    """Half of the files or more are gone."""
    COMMITTED = "committed"
    """The copy's own history went on. It is counted from the base all the same."""
    REPOSITORY_REPLACED = "repository_replaced"
    """The copy's own `.git` is gone, or begins somewhere else."""
    NESTED_REPOSITORY = "nested_repository"
    """A folder below has a `.git`: git itself would not look inside, the harness does."""
    STRANGE_FILE = "strange_file"
    """A socket, a pipe, a device, or a link that leads outside."""

    @property
    def forfeits(self) -> bool:
        """Whether it costs the reward, whatever the tests say."""
        return self in _FORFEITS


_FORFEITS: Final = frozenset((Finding.TESTS_CHANGED, Finding.TESTS_REMOVED, Finding.RUNNER_CHANGED, Finding.TOO_LARGE))
_RUNNER_FILES: Final = frozenset({"conftest.py", "pytest.ini", "tox.ini", "sitecustomize.py", "usercustomize.py"})
_ASKS: Final = re.compile(r"PYTEST_CURRENT_TEST|sys\.argv|sys\.modules|inspect\.stack|_getframe|\b(?:unittest|pytest)\b")


def reward_of(rewards: RepairRewards, grade: Grade, likeness: float, findings: Sequence[Finding]) -> float:
    """In [0, 1 + w]."""
    if any(one.forfeits for one in findings):
        return 0.0
    score = grade.score if rewards.fractional else float(grade.solved)
    tie_breaker = rewards.tie_breaker(len(grade.fail_to_pass)) * rewards.nearness(likeness)
    return score + tie_breaker if score > 0 else 0.0


def parts_of(rewards: RepairRewards, grade: Grade, likeness: float, findings: Sequence[Finding]) -> Mapping[str, float | None]:
    """What the reward is made of, unweighted, for the run's files."""
    return MappingProxyType(
        {
            "solved": float(grade.solved),
            "partial": grade.score,
            "similarity": rewards.nearness(likeness),
            "forfeited": float(any(one.forfeits for one in findings)),
        }
    )


def likeness_of(base: Tree, left: Tree, fixed: Tree) -> float:
    """Likeness of the changes from `base` to `left` to those to `fixed`, in [0, 1]: added and removed lines of every file that
    either changes. 0 where nothing was changed."""
    touched = sorted(name for name in {*base, *left, *fixed} if not base.get(name) == left.get(name) == fixed.get(name))
    if all(base.get(name) == left.get(name) for name in touched):
        return 0.0
    got: list[str] = []
    wanted: list[str] = []
    for name in touched:
        before, mine, right = (entry.text if (entry := tree.get(name)) else "" for tree in (base, left, fixed))
        got += changed_lines(before, mine)
        wanted += changed_lines(before, right)
    return alike(got, wanted)


def changed_paths(base: Tree, left: Tree) -> tuple[str, ...]:
    """Files that were added, changed or removed."""
    return tuple(sorted(name for name in {*base, *left} if base.get(name) != left.get(name)))


def findings_of(task: RepairTask, base: Tree, found: Found) -> tuple[Finding, ...]:
    """What the files of a repository say; what its `.git` says is told apart (`copies`)."""
    left, named = found.tree, set[Finding]()
    for path in task.protected:
        if path in base and path not in left:
            named.add(Finding.TESTS_REMOVED)
        elif path in base and left[path] != base[path]:
            named.add(Finding.TESTS_CHANGED)
    changed = changed_paths(base, left)
    if any(PurePosixPath(path).name in _RUNNER_FILES for path in changed):
        named.add(Finding.RUNNER_CHANGED)
    if found.too_large:
        named.add(Finding.TOO_LARGE)
    if sum(path not in left for path in base) * 2 >= len(base):
        named.add(Finding.FILES_REMOVED)
    if found.nested:
        named.add(Finding.NESTED_REPOSITORY)
    if found.strange or any(entry.is_link and _leaves(path, entry.text) for path, entry in left.items()):
        named.add(Finding.STRANGE_FILE)
    if any(_asks_for_tests(task, base, left, path) for path in changed):
        named.add(Finding.NAMES_TESTS)
    return tuple(one for one in Finding if one in named)


def _asks_for_tests(task: RepairTask, base: Tree, left: Tree, path: str) -> bool:
    if path in task.protected or path not in left or not path.endswith(".py"):
        return False
    added, _ = changed_lines(base[path].text if path in base else "", left[path].text)
    names = {name for one in task.protected if one in base for name in _test_names(base[one].text)}
    return bool(_ASKS.search(added)) or any(re.search(rf"\b{re.escape(name)}\b", added) for name in names)


def _test_names(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [one.name for one in ast.walk(tree) if isinstance(one, kinds) and one.name.lower().startswith("test")]


def _leaves(path: str, target: str) -> bool:
    """Whether a link leads out of its repository."""
    if target.startswith("/"):
        return True
    depth = len(PurePosixPath(path).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
