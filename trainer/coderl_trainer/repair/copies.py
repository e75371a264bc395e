"""Working copies: temporary folders that agents get, each with one commit of its own and nothing else of the harness."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coderl_trainer.errors import GitFailed

from .git import HarnessRepository, start_history
from .rewards import Finding
from .tasks import RepairTask
from .trees import Tree, remove_tree, write_tree

_BEGINNING: Final = "The repository as it was found"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One task with its repository of the harness."""

    task: RepairTask
    repository: HarnessRepository
    base: str
    """The commit that everything is compared with."""
    fixed: str
    base_tree: Tree
    fixed_tree: Tree
    lock: threading.Lock = field(default_factory=threading.Lock)

    def diff(self, left: Tree) -> str:
        """What an agent changed since the base, for people; where git cannot say it, that it cannot."""
        try:
            with self.lock:
                return self.repository.diff(self.base, self.repository.commit(left, self.base))
        except GitFailed as error:  # names that git refuses: no reason to know nothing of the agent
            return f"git cannot show what was changed: {error}\n"


def prepare(task: RepairTask, folder: Path) -> Prepared:
    """The harness's repository of a task in a new folder. Raises `GitFailed`, also where the right fix does not apply."""
    repository = HarnessRepository(folder)
    base = repository.fetch(Path(task.repo), task.base_commit) if task.repo else repository.commit(task.tree)
    fixed = repository.patched(base, task.patch)
    return Prepared(task, repository, base, fixed, repository.tree(base), repository.tree(fixed))


@dataclass(frozen=True, slots=True)
class Copy:
    """A working copy and the folder for what the agent writes about itself."""

    repository: Path
    out: Path
    first: str
    """The id of its own first commit."""

    def history_findings(self) -> tuple[Finding, ...]:
        """What its `.git` looks like, read as plain files: for the report, nothing is decided by it."""
        head = self.repository / ".git" / "HEAD"
        if (self.repository / ".git").is_symlink() or not head.is_file() or head.is_symlink():
            return (Finding.REPOSITORY_REPLACED,)
        told = _plain(head)
        if told.startswith("ref: refs/heads/") and re.fullmatch(r"[\w./-]+", told[5:]) and ".." not in told:
            told = _plain(self.repository / ".git" / told[5:])
        if told == self.first:
            return ()
        known = (self.repository / ".git" / "objects" / self.first[:2] / self.first[2:]).is_file()
        return (Finding.COMMITTED,) if known else (Finding.REPOSITORY_REPLACED,)


@contextmanager
def working_copy(prepared: Prepared) -> Iterator[Copy]:
    """A copy of the base in a temporary folder, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="coderl-repair-") as folder:
        repository, out = Path(folder) / "repository", Path(folder) / "out"
        out.mkdir()
        write_tree(prepared.base_tree, repository)
        start_history(repository, _BEGINNING)
        try:
            yield Copy(repository, out, _plain(repository / ".git" / "refs" / "heads" / "main"))
        finally:
            remove_tree(repository)
            remove_tree(out)


def _plain(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", errors="replace").strip()
    except OSError:
        return ""
