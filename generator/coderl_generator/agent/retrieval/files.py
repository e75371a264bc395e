"""The files of a workspace for its index, read without following a link.

Covered: symbolic links of files and folders (left out, and refused while a path is opened), pipes, devices and sockets (never
waited for), names that cannot be cited (control characters, no UTF-8), large and binary files, files that vanish or may not be
read. Not covered: hard links to files outside; what a file holds (which files hold secrets is for the predicate to say).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

MOST_FILE_BYTES: Final = 1 << 20
MOST_FILES: Final = 20_000
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOOKED_AT_BYTES: Final = 8_000
"""Git looks for a zero byte in so many."""

Admitted = Callable[[PurePosixPath], bool]
"""Whether a path relative to the root may be read; asked for folders too, and one that is refused is not entered."""


class LeftOut(StrEnum):
    """Why a file that was admitted is not in the index."""

    BINARY = "binary"
    TOO_LARGE = "too large"
    TOO_MANY = "too many files"
    UNREADABLE = "unreadable"
    NAME = "a name that cannot be cited"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows, without reading, that a file has changed: times in nanoseconds, size in bytes.

    A change within one tick of the file system's clock that keeps the size is not seen (`Hit.still_true` reads the lines).
    """

    changed_ns: int
    modified_ns: int
    size: int
    inode: int


def walk(root: Path, admitted: Admitted) -> Iterator[tuple[PurePosixPath, Stamp]]:
    """Every ordinary file that is admitted, by folder and name. Raises `FileNotFoundError` where there is no such folder."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder")
    for folder, folders, names, handle in os.fwalk(str(root), follow_symlinks=False):
        here = PurePosixPath(Path(folder).relative_to(root))
        folders[:] = sorted(name for name in folders if _is_citable(name) and admitted(here / name))
        for name in sorted(names):
            if not _is_citable(name) or not admitted(here / name):
                continue
            try:
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISREG(found.st_mode):
                yield here / name, Stamp(found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def read(root: Path, path: PurePosixPath) -> bytes | LeftOut:
    """The bytes of a text file below a folder, or why there are none."""
    if ".." in path.parts or path.is_absolute() or not path.parts:
        return LeftOut.UNREADABLE
    try:
        with ExitStack() as opened:
            folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, folder)
            for name in path.parts[:-1]:
                folder = os.open(name, _FOLDER, dir_fd=folder)
                opened.callback(os.close, folder)
            with os.fdopen(os.open(path.name, _READ, dir_fd=folder), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return LeftOut.UNREADABLE
                data = file.read(MOST_FILE_BYTES + 1)
    except OSError:
        return LeftOut.UNREADABLE
    if len(data) > MOST_FILE_BYTES:
        return LeftOut.TOO_LARGE
    return LeftOut.BINARY if b"\0" in data[:_LOOKED_AT_BYTES] else data


def _is_citable(name: str) -> bool:
    """Printable, no lone surrogate."""
    return all(char.isprintable() for char in name)
