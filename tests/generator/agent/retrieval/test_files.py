"""What is read of a workspace, and what never is."""

from __future__ import annotations

import os
import socket
from pathlib import Path, PurePosixPath

import pytest

from coderl_generator.agent.retrieval.files import MOST_FILE_BYTES, LeftOut, read, walk


def everything(path: PurePosixPath) -> bool:
    return True


def paths(root: Path) -> list[str]:
    return [str(path) for path, _ in walk(root, everything)]


def test_ordinary_files_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "d/z.py", "d/a/x.py", "c/y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert paths(tmp_path) == ["a.py", "b.py", "c/y.py", "d/z.py", "d/a/x.py"]


def test_a_folder_that_is_not_admitted_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "deep").mkdir(parents=True)
    (tmp_path / "node_modules" / "deep" / "x.js").write_text("x")
    asked: list[str] = []

    def admitted(path: PurePosixPath) -> bool:
        asked.append(str(path))
        return path.name != "node_modules"

    assert list(walk(tmp_path, admitted)) == []
    assert asked == ["node_modules"]


def test_links_pipes_and_sockets_are_neither_listed_nor_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file-link").symlink_to(outside / "secret")
    (root / "folder-link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        old = Path.cwd()
        os.chdir(root)  # a path of a socket may be 107 bytes long at most
        try:
            unix.bind("socket")
        finally:
            os.chdir(old)
        assert paths(root) == []
        for name in (
            "file-link",
            "folder-link/secret",
            "loop/loop",
            "dangling",
            "pipe",
            "socket",
            "nothing",
            "../outside/secret",
        ):
            assert read(root, PurePosixPath(name)) is LeftOut.UNREADABLE, name
    assert read(root, PurePosixPath(outside / "secret")) is LeftOut.UNREADABLE
    assert read(root, PurePosixPath()) is LeftOut.UNREADABLE


def test_what_is_no_text_or_too_large_says_so(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\1")
    (tmp_path / "large").write_bytes(b"x" * (MOST_FILE_BYTES + 1))
    (tmp_path / "largest").write_bytes(b"x" * MOST_FILE_BYTES)
    assert read(tmp_path, PurePosixPath("binary")) is LeftOut.BINARY
    assert read(tmp_path, PurePosixPath("large")) is LeftOut.TOO_LARGE
    assert read(tmp_path, PurePosixPath("largest")) == b"x" * MOST_FILE_BYTES


def test_a_name_that_cannot_be_cited_is_left_out(tmp_path: Path) -> None:
    for name in (b"new\nline.py", b"bell\x07.py", b"caf\xe9.py", "right‮left.py".encode(), "größe.py".encode(), b"two words.py"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    assert paths(tmp_path) == ["größe.py", "two words.py"]


def test_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        paths(tmp_path / "nothing")
