"""Containment: what no path, link or race gets the agent to read or write."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from coderl_generator.agent.workspace import MOST_FILE_BYTES, Change, Workspace
from coderl_generator.errors import PathRefused, ToolFailed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("inside\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_text("outside\n")
    (tmp_path / "ws-sibling").mkdir()
    (tmp_path / "ws-sibling" / "c.txt").write_text("sibling\n")
    return folder


def write(workspace: Workspace, path: str, data: bytes = b"new\n") -> None:
    resolved = workspace.resolve(path, to_write=True)
    workspace.apply([Change(resolved, workspace.read_if_there(resolved), data)])


def test_ordinary_paths_in_all_their_forms(root: Path) -> None:
    workspace = Workspace(root)
    for path in ("src/a.py", "./src//a.py", "src/../src/a.py", str(root / "src" / "a.py"), "nowhere/../src/a.py"):
        assert workspace.read(workspace.resolve(path)) == b"inside\n"


@pytest.mark.parametrize(
    "path",
    ["..", "../outside/b.txt", "src/../../outside/b.txt", "/etc/passwd", "../ws-sibling/c.txt", "", " ", "a\0b", "a\nb",
     "\ud800", "x" * 300, "a/" * 2000, "~/x/../../.."],
)  # fmt: skip
def test_what_leads_out_or_is_no_path(root: Path, path: str) -> None:
    workspace = Workspace(root)
    with pytest.raises(PathRefused):
        workspace.resolve(path)
    with pytest.raises(PathRefused):
        workspace.resolve(path, to_write=True)


def test_a_sibling_with_the_same_beginning_is_outside(root: Path) -> None:
    with pytest.raises(PathRefused, match="out of the workspace"):
        Workspace(root).resolve(f"{root}-sibling/c.txt")


@pytest.mark.parametrize("target", ["../outside/b.txt", "{tmp}/outside/b.txt", "../outside"])
def test_links_that_lead_out(root: Path, tmp_path: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(tmp=tmp_path))
    workspace = Workspace(root)
    for path in ("link", "link/b.txt"):
        with pytest.raises(PathRefused):
            workspace.resolve(path)
    assert [str(path) for path in workspace.files()] == ["src/a.py"]


def test_links_inside_are_followed_and_loops_are_not(root: Path) -> None:
    (root / "link").symlink_to("src/a.py")
    (root / "absolute").symlink_to(root / "src")
    (root / "loop").symlink_to("loop")
    workspace = Workspace(root)
    assert workspace.resolve("link") == PurePosixPath("src/a.py")
    assert workspace.resolve("absolute/a.py") == PurePosixPath("src/a.py")
    with pytest.raises(PathRefused, match="links"):
        workspace.resolve("loop")


def test_a_link_put_in_the_way_after_the_check_leads_nowhere(root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root)
    resolved = workspace.resolve("src/a.py")
    change = Change(resolved, b"inside\n", b"changed\n")
    (root / "src" / "a.py").unlink()
    (root / "src").rmdir()
    (root / "src").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "a.py").write_text("inside\n")
    with pytest.raises(ToolFailed):
        workspace.read(resolved)
    with pytest.raises((ToolFailed, PathRefused)):
        workspace.apply([change])
    assert (tmp_path / "outside" / "a.py").read_text() == "inside\n"


def test_an_exchanged_root_is_noticed(root: Path, tmp_path: Path) -> None:
    workspace = Workspace(root)
    root.rename(tmp_path / "moved")
    root.mkdir()
    with pytest.raises(PathRefused, match="not the folder"):
        workspace.read(PurePosixPath("src/a.py"))


def test_writing_replaces_a_link_to_outside_and_never_writes_through_it(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "b.txt"
    os.link(outside, root / "hard.txt")
    workspace = Workspace(root)
    write(workspace, "hard.txt")
    assert outside.read_text() == "outside\n"
    assert (root / "hard.txt").read_text() == "new\n"


def test_the_output_root_is_the_only_place_to_write(root: Path) -> None:
    workspace = Workspace(root, root / "out")
    write(workspace, "out/deep/x.txt")
    assert (root / "out" / "deep" / "x.txt").read_text() == "new\n"
    (root / "out" / "link").symlink_to("../src")
    for path in ("src/a.py", "x.txt", "out/../x.txt", "out/link/a.py", "output/x.txt"):
        with pytest.raises(PathRefused):
            workspace.resolve(path, to_write=True)
    with pytest.raises(PathRefused, match="outside the workspace"):
        Workspace(root, root.parent / "outside")


@pytest.mark.parametrize("path", [".git/config", ".GIT/hooks/x", "src/.git/x", ".env", "deploy/id_rsa", "a:b#/.env"])
def test_git_and_secrets(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("secret\n")
    (root / "innocent").symlink_to(path)
    workspace = Workspace(root)
    for name in (path, "innocent"):
        with pytest.raises(PathRefused):
            workspace.resolve(name)
    assert [str(one) for one in workspace.files()] == ["src/a.py"]


def test_ignore_files_hold_as_they_were_at_the_start(root: Path) -> None:
    (root / ".gitignore").write_text("build/\n*.log\n!keep.log\n/top\n")
    (root / "src" / ".gitignore").write_text("!special.log\n")
    for name in ("build/x.py", "a.log", "keep.log", "top", "src/top", "src/special.log", "build/keep.log"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x\n")
    workspace = Workspace(root)
    listed = [str(path) for path in workspace.files()]
    assert listed == [".gitignore", "keep.log", "src/.gitignore", "src/a.py", "src/special.log", "src/top"]
    write(workspace, ".gitignore", b"")
    with pytest.raises(PathRefused, match="ignore file"):
        workspace.resolve("a.log")


def test_protected_folders(root: Path) -> None:
    (root / "home").mkdir()
    (root / "home" / "permissions.json").write_text("{}")
    workspace = Workspace(root, protected=(root / "home",))
    with pytest.raises(PathRefused, match="records"):
        workspace.resolve("home/permissions.json", to_write=True)
    with pytest.raises(PathRefused, match="records"):
        workspace.resolve("home/permissions.json")


def test_what_is_no_ordinary_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    workspace = Workspace(root)
    with pytest.raises(PathRefused, match="ordinary"):
        workspace.read(PurePosixPath("pipe"))  # and it does not wait for a writer
    with pytest.raises(PathRefused, match="ordinary"):
        write(workspace, "pipe")
    with pytest.raises(ToolFailed, match="folder"):
        workspace.read(PurePosixPath("src"))
    (root / "large").write_bytes(b"x" * (MOST_FILE_BYTES + 1))
    with pytest.raises(ToolFailed, match="large"):
        workspace.read(PurePosixPath("large"))


def test_several_changes_are_all_made_or_none(root: Path) -> None:
    workspace = Workspace(root)
    changes = [
        Change(PurePosixPath("src/a.py"), b"inside\n", b"changed\n"),
        Change(PurePosixPath("new.py"), None, b"new\n"),
        Change(PurePosixPath("src/gone.py"), b"was never there\n", b"x"),
    ]
    with pytest.raises(ToolFailed, match="changed meanwhile"):
        workspace.apply(changes)
    assert (root / "src" / "a.py").read_text() == "inside\n"
    assert not (root / "new.py").exists()


def test_a_dry_run_touches_nothing_and_reads_what_it_wrote(root: Path) -> None:
    workspace = Workspace(root, dry_run=True)
    write(workspace, "src/new.py")
    workspace.apply([Change(PurePosixPath("src/a.py"), b"inside\n", None)])
    assert [str(path) for path in workspace.files()] == ["src/new.py"]
    assert workspace.read(PurePosixPath("src/new.py")) == b"new\n"
    assert [str(path.relative_to(root)) for path in root.rglob("*.py")] == ["src/a.py"]


def test_the_mode_of_a_file_stays_and_no_draft_is_left(root: Path) -> None:
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o751)
    write(Workspace(root), "run.sh")
    assert (root / "run.sh").stat().st_mode & 0o777 == 0o751
    assert sorted(path.name for path in root.iterdir()) == ["run.sh", "src"]
