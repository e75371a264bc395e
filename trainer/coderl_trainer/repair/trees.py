"""The files of a repository as plain data, and how they get into a folder and out of one that an agent had.

Reading covers: symbolic links are read as links and never followed, `.git` is skipped at every depth (a folder with one of its
own is still read), folders that were made unreadable are opened again, what is neither file, folder nor link is left out and
named, and size and number are capped. Byte code and caches of test runners (`SKIPPED`) are left out. Not covered: a folder that
changes while it is read; whoever had it has to be dead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

SKIPPED: Final = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"})
"""Folders that hold nothing anybody wrote."""

_LONGEST_PATH: Final = 3000
"""Bytes; the system opens none of 4096 or more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or symbolic link."""

    data: bytes
    """The content; of a link what it points to."""
    mode: str = "100644"
    """As git writes it: 100644, 100755 or 120000 (a link)."""

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"

    @property
    def text(self) -> str:
        """The content; bytes that are no UTF-8 are replaced."""
        return self.data.decode("utf-8", errors="replace")


Tree = Mapping[str, Entry]
"""By path relative to the repository, with `/`."""


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What a tree may be, when it is read."""

    files: int = 20_000
    """Links and whatever else there is among them."""
    bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder held."""

    tree: Tree
    nested: tuple[str, ...] = ()
    """Folders below the top that had a `.git` of their own: git itself would not look inside."""
    strange: tuple[str, ...] = ()
    """Sockets, pipes, devices."""
    too_large: bool = False
    """Reading stopped at the limits, or at a path that is too long; `tree` is not whole."""


def write_tree(tree: Tree, folder: Path) -> None:
    """Write every entry below `folder`, which is made. Raises `ValueError` for a path that leaves it, `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in tree.items():
        path = folder / checked_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_link:
            path.symlink_to(os.fsdecode(entry.data))
        else:
            path.write_bytes(entry.data)
            path.chmod(0o755 if entry.mode == "100755" else 0o644)


def checked_path(name: str) -> PurePosixPath:
    """A path that stays in its repository and names nothing of git's own. Raises `ValueError`."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or ".git" in path.parts:
        raise ValueError(f"{name!r} is no path of a file in a repository")
    return path


def read_tree(folder: Path, limits: TreeLimits | None = None) -> Found:
    """Everything in a folder that somebody else had. A folder that is gone holds nothing. Raises `OSError`."""
    limits = limits or TreeLimits()
    entries: dict[str, Entry] = {}
    nested: list[str] = []
    strange: list[str] = []
    left, seen = limits.bytes, 0
    for name, path, info in _walk(folder):
        seen += 1
        if seen > limits.files or info is None:
            return Found(entries, tuple(nested), tuple(strange), too_large=True)
        if PurePosixPath(name).name == ".git":
            if "/" in name:
                nested.append(str(PurePosixPath(name).parent))
            continue
        if stat.S_ISLNK(info.st_mode):
            entries[name] = Entry(os.fsencode(path.readlink()), "120000")
        elif not stat.S_ISREG(info.st_mode):
            strange.append(name)
        elif info.st_size > left:
            return Found(entries, tuple(nested), tuple(strange), too_large=True)
        else:
            data = _content(path, left)
            left -= len(data)
            entries[name] = Entry(data, "100755" if info.st_mode & stat.S_IXUSR else "100644")
    return Found(entries, tuple(nested), tuple(strange))


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it, however deep and whatever its rights. Nothing is followed. Raises `OSError`.

    `shutil.rmtree` calls itself for each folder in a folder, and paths of 4096 bytes cannot be opened: folders are moved up.
    """
    ahead, moved = [folder], 0
    while ahead:
        here = ahead.pop()
        for entry in list(os.scandir(here)):
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
                continue
            path.chmod(0o700)
            ahead.append(path.rename(folder.with_name(f"{folder.name}.removed-{moved}")))
            moved += 1
        here.rmdir()


def tree_bytes(folder: Path, most: int) -> int:
    """Size of the files in a folder that somebody is changing. Counting ends above `most`; what lies too deep is left out."""
    total, ahead = 0, [str(folder)]
    while ahead and total <= most:
        with suppress(OSError), os.scandir(ahead.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _walk(folder: Path) -> Iterator[tuple[str, Path, os.stat_result | None]]:
    """(Name, path, what it is) of all but folders; of `.git` only that it is there; None = the path is too long."""
    ahead = [(folder, "")]
    while ahead:
        here, below = ahead.pop()
        for path in sorted(_entries(here)):
            name = below + path.name
            if len(os.fsencode(path)) > _LONGEST_PATH:
                yield name, path, None
                continue
            info = path.lstat()
            if path.name == ".git" or not stat.S_ISDIR(info.st_mode):
                yield name, path, info
            elif path.name not in SKIPPED:
                ahead.append((path, f"{name}/"))


def _entries(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        try:
            return list(folder.iterdir())
        except PermissionError:
            folder.chmod(0o700)
            return list(folder.iterdir())
    return []


def _content(path: Path, most: int) -> bytes:
    """At most `most` + 1 bytes of a file that is none of the links."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except PermissionError:
        path.chmod(0o600, follow_symlinks=False) if os.chmod in os.supports_follow_symlinks else path.chmod(0o600)
        handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        return file.read(most + 1)
