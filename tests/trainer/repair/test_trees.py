"""Trees come out of a folder as they went in, whatever an agent left beside them, and nothing is followed or left behind."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_trainer.repair.trees import Entry, TreeLimits, checked_path, read_tree, remove_tree, tree_bytes, write_tree

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/."), min_size=1, max_size=8)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ENTRIES = st.builds(Entry, st.binary(max_size=64), st.sampled_from(["100644", "100755"]))


def without_clashes(tree: dict[str, Entry]) -> dict[str, Entry]:
    """No file stands where another one needs a folder."""
    return {path: entry for path, entry in tree.items() if not any(other.startswith(f"{path}/") for other in tree)}


@given(st.dictionaries(PATHS, ENTRIES, max_size=6).map(without_clashes))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(tree: dict[str, Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "copy"
        write_tree(tree, place)
        assert read_tree(place).tree == tree
        remove_tree(place)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\0b", ".git/config", "a/.git/hooks/x"])
def test_paths_that_leave_the_repository_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no path of a file"):
        checked_path(path)
    with pytest.raises(ValueError, match="no path of a file"):
        write_tree({path: Entry(b"")}, tmp_path)


def test_links_are_read_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "file").symlink_to(secret)
    (copy / "folder").symlink_to(tmp_path)
    found = read_tree(copy)
    assert found.tree == {"file": Entry(os.fsencode(secret), "120000"), "folder": Entry(os.fsencode(tmp_path), "120000")}
    remove_tree(copy)
    assert secret.read_text() == "secret"


def test_what_else_a_folder_may_hold(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]\n")
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    (tmp_path / "sub" / "kept.py").write_text("x = 1\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "kept.pyc").write_bytes(b"\0")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "inside").write_text("1")
    (tmp_path / "closed").chmod(0)
    found = read_tree(tmp_path)
    assert sorted(found.tree) == ["closed/inside", "sub/kept.py"]
    assert (found.nested, found.strange, found.too_large) == (("sub",), ("pipe",), False)


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert read_tree(tmp_path / "gone").tree == {}


def test_reading_stops_at_the_limits(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x" * 10)
    assert not read_tree(tmp_path, TreeLimits(files=5, bytes=50)).too_large
    assert read_tree(tmp_path, TreeLimits(files=4, bytes=50)).too_large
    assert read_tree(tmp_path, TreeLimits(files=5, bytes=49)).too_large
    assert tree_bytes(tmp_path, 1 << 20) == 50


def test_a_folder_may_be_deeper_than_paths_are_long(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    here = os.open(copy, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 40, dir_fd=here)
        below = os.open("d" * 40, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert read_tree(copy).too_large
    assert tree_bytes(copy, 1 << 20) >= 0
    remove_tree(copy)
    assert list(tmp_path.iterdir()) == []


def test_modes_are_kept(tmp_path: Path) -> None:
    write_tree({"run.sh": Entry(b"#!/bin/sh\n", "100755"), "link": Entry(b"run.sh", "120000")}, tmp_path)
    assert (tmp_path / "run.sh").stat().st_mode & stat.S_IXUSR
    assert read_tree(tmp_path).tree["link"].is_link
