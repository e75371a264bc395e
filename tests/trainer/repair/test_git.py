"""The harness's repository: equal trees give equal commits, patches apply, and nothing of an agent's copy is believed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from coderl_trainer.errors import GitFailed
from coderl_trainer.repair.copies import prepare, working_copy
from coderl_trainer.repair.git import HarnessRepository, start_history
from coderl_trainer.repair.rewards import Finding
from coderl_trainer.repair.trees import Entry, read_tree

from .broken_repositories import RIGHT, WRONG, area_task

ODD = {
    'quo"te\\n': Entry(b"1"),
    "new\nline": Entry(b"2"),
    "tab\tand ünicode/ file": Entry(b"\0\xff"),
    os.fsdecode(b"not-utf8-\xff"): Entry(b"3", "100755"),
    "link": Entry(b"../outside", "120000"),
    ".gitignore": Entry(b"*\n"),
    ".gitattributes": Entry(b"* text eol=crlf filter=x\n"),
    "crlf.txt": Entry(b"a\r\nb\n"),
    "git~1": Entry(b"4"),
}


@pytest.fixture
def repository(tmp_path: Path) -> HarnessRepository:
    return HarnessRepository(tmp_path / "harness.git")


def test_any_tree_is_kept_to_the_byte(repository: HarnessRepository, tmp_path: Path) -> None:
    commit = repository.commit(ODD)
    assert repository.tree(commit) == ODD
    assert HarnessRepository(tmp_path / "other.git").commit(ODD) == commit


def test_a_patch_is_applied_and_a_foreign_one_refused(repository: HarnessRepository) -> None:
    task = area_task()
    base = repository.commit(task.tree)
    fixed = repository.patched(base, task.patch)
    assert repository.tree(fixed)["area.py"].text == RIGHT
    assert repository.diff(base, base) == ""
    with pytest.raises(GitFailed, match="apply failed"):
        repository.patched(fixed, task.patch)


def test_a_commit_of_another_repository_comes_without_its_history(repository: HarnessRepository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "area.py").write_text(WRONG)
    start_history(other, "first")
    first = git(other, "rev-parse", "HEAD")
    (other / "area.py").write_text(RIGHT)
    git(other, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "fixed")
    base = repository.fetch(other, first)
    assert repository.tree(base) == {"area.py": Entry(WRONG.encode())}
    with pytest.raises(GitFailed, match="no git repository"):
        repository.fetch(tmp_path / "nowhere", first)


def test_a_copy_has_one_commit_and_no_trace_of_the_fix(tmp_path: Path) -> None:
    prepared = prepare(area_task(), tmp_path / "harness.git")
    with working_copy(prepared) as copy:
        assert git(copy.repository, "rev-list", "--all", "--count") == "1"
        assert git(copy.repository, "status", "--porcelain") == ""
        assert "width * height" not in git(copy.repository, "log", "-p", "--all")
        missing = subprocess.run(["git", "cat-file", "-e", prepared.fixed], cwd=copy.repository, capture_output=True)
        assert missing.returncode != 0
        assert copy.history_findings() == ()
        place = copy.repository
    assert not place.exists()


def test_changes_are_found_whatever_the_copy_says_of_itself(tmp_path: Path) -> None:
    prepared = prepare(area_task(), tmp_path / "harness.git")
    marker = tmp_path / "hook-ran"
    with working_copy(prepared) as copy:
        (copy.repository / "area.py").write_text(RIGHT)
        (copy.repository / "new.py").write_text("x = 1\n")
        (copy.repository / ".gitignore").write_text("*\n")
        hook = copy.repository / ".git" / "hooks" / "post-index-change"
        hook.parent.mkdir()
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
        config = copy.repository / ".git" / "config"
        config.write_text(config.read_text() + f"[core]\n\tfsmonitor = touch {marker}\n[diff]\n\texternal = touch {marker}\n")
        diff = prepared.diff(read_tree(copy.repository).tree)
        assert not marker.exists()
    assert "+    return width * height" in diff
    assert "+++ b/new.py" in diff
    assert "+++ b/.gitignore" in diff


def test_a_history_that_went_on_or_was_replaced_is_named(tmp_path: Path) -> None:
    prepared = prepare(area_task(), tmp_path / "harness.git")
    with working_copy(prepared) as copy:
        (copy.repository / "area.py").write_text(RIGHT)
        git(copy.repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "hidden")
        assert copy.history_findings() == (Finding.COMMITTED,)
    with working_copy(prepared) as copy:
        subprocess.run(["rm", "-rf", ".git"], cwd=copy.repository, check=True)
        assert copy.history_findings() == (Finding.REPOSITORY_REPLACED,)
        git(copy.repository, "init", "-q")
        assert copy.history_findings() == (Finding.REPOSITORY_REPLACED,)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
