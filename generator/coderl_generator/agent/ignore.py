"""Which files of a folder its ignore files leave out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from coderl_generator.globs import is_ignored

IGNORE_FILES = (".gitignore", ".simplecoderignore")
_MOST_BYTES = 1 << 18


class IgnoreRules:
    """The ignore files of a tree as they are when this is built: what is written into them later changes nothing.

    Covered: gitignore(5) in `.gitignore` and `.simplecoderignore` of every folder that is not ignored itself; the deeper file
    decides; what is below an ignored folder cannot be taken back. Not covered: `.git/info/exclude`, the user's global file,
    files that Git tracks although they are ignored (they are left out too).
    """

    def __init__(self, lines: Mapping[str, tuple[str, ...]]) -> None:
        """`lines`: of each folder's ignore files, by the folder's path relative to the root (`` = the root)."""
        self._lines = dict(lines)
        self._folders: dict[str, bool] = {"": False}

    @classmethod
    def of(cls, root: Path) -> IgnoreRules:
        """Read all ignore files below a folder. Symbolic links are not followed."""
        rules = cls({})
        for folder, folders, files in os.walk(root):
            here = "" if Path(folder) == root else Path(folder).relative_to(root).as_posix()
            lines = _lines_of(Path(folder), files)
            if lines:
                rules._lines[here] = lines
            prefix = f"{here}/" if here else ""
            folders[:] = sorted(name for name in folders if name != ".git" and not rules._folder_ignored(prefix + name))
        return rules

    def ignores(self, path: PurePosixPath, *, folder: bool = False) -> bool:
        """Whether a path relative to the root, or a folder that it is in, is ignored."""
        if not path.parts:
            return False
        if self._folder_ignored(path.parent.as_posix() if len(path.parts) > 1 else ""):
            return True
        return self._folder_ignored(path.as_posix()) if folder else self._named(path.as_posix(), folder=False)

    def _folder_ignored(self, path: str) -> bool:
        if path in ("", "."):
            return False
        known = self._folders.get(path)
        if known is None:
            known = self._folder_ignored(path.rpartition("/")[0]) or self._named(path, folder=True)
            self._folders[path] = known
        return known

    def _named(self, path: str, *, folder: bool) -> bool:
        said = False
        parts = path.split("/")
        for depth in range(len(parts)):
            lines = self._lines.get("/".join(parts[:depth]))
            if lines:
                here = is_ignored("/".join(parts[depth:]), lines, folder=folder)
                said = said if here is None else here
        return said


def _lines_of(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    lines: list[str] = []
    present = set(files)
    for name in IGNORE_FILES:
        if name in present and not (folder / name).is_symlink():
            try:
                data = (folder / name).read_bytes()[:_MOST_BYTES]
            except OSError:
                continue  # a file that nobody can read ignores nothing, for Git neither
            lines += data.decode("utf-8", "replace").splitlines()
    return tuple(lines)
