"""The files that the agent may read and write: containment, in one place.

Paths are the model's words and trusted in nothing. A path is resolved one name at a time, symbolic links and `..` included, and
has to end inside the workspace; it is then opened again from the workspace's own descriptor, name by name, with `O_NOFOLLOW`,
so that a link put in its way in between makes the opening fail and leads nowhere. A file is written beside its place and moved
there, so that a link there, hard or symbolic, is replaced and not written through.

Covered: absolute paths, `..`, symbolic links of folders and files (also to absolute paths), links and folders exchanged between
check and use, hard links (writing), devices and pipes, `.git`, secrets by their names, ignored files, protected folders (the
agent's own permissions and records), sizes. Not covered: hard links to files outside (reading; who made one could read that
file), a folder moved out of the workspace by somebody else while a file in it is written, what somebody else writes into a
file in the instant between the last look at it and the change, secrets in files with ordinary names.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coderl_generator.errors import PathRefused, ToolFailed
from coderl_generator.globs import DEFAULT_SECRET_GLOBS, is_secret

from .ignore import IgnoreRules

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_MOST_PATH_CHARS = 1024
_MOST_NAME_BYTES = 255
MOST_FILE_BYTES = 4 << 20
MOST_FILES = 50_000
"""Files that are listed, searched or copied; a larger workspace is cut there."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that a call makes, alters or removes."""

    path: PurePosixPath
    before: bytes | None
    """None = it is not there."""
    after: bytes | None
    """None = it is removed."""


class Workspace:
    """A folder to read, and a folder inside it to write. See the module for what is covered."""

    def __init__(
        self,
        root: Path,
        output_root: Path | None = None,
        *,
        protected: Sequence[Path] = (),
        secret_globs: Sequence[str] = DEFAULT_SECRET_GLOBS,
        dry_run: bool = False,
    ) -> None:
        """`output_root`: default `root`; made where it is missing. `protected`: never read nor written, wherever they are.
        `dry_run`: what is written stays in memory, and is read from there.

        Raises `PathRefused` where the root is no folder, or the output root lies outside it.
        """
        self.root = root.resolve()
        if not self.root.is_dir():
            raise PathRefused(f"{root} is no folder")
        self.dry_run = dry_run
        self._protected = tuple(path.resolve() for path in protected)
        self._secret_globs = tuple(secret_globs)
        found = self.root.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._written: dict[PurePosixPath, bytes | None] = {}
        self._ignored = IgnoreRules({})
        self._output = self._output_folder(output_root or self.root)
        self._ignored = IgnoreRules.of(self.root)

    @property
    def output_root(self) -> Path:
        """The folder below which is written."""
        return self.root / self._output

    def _output_folder(self, folder: Path) -> PurePosixPath:
        resolved = folder.resolve()
        if not resolved.is_relative_to(self.root):
            raise PathRefused(f"the output root {folder} lies outside the workspace {self.root}: choose a folder inside it")
        relative = PurePosixPath(resolved.relative_to(self.root).as_posix())
        self._objection_to(relative)
        if not self.dry_run:
            try:
                resolved.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PathRefused(f"the output root {folder} cannot be made: {error.strerror}") from error
        return relative

    # -- which paths ----------------------------------------------------------------------------------------------------------

    def resolve(self, path: str, *, to_write: bool = False) -> PurePosixPath:
        """A path in the model's words as one relative to the root, without links. Raises `PathRefused`."""
        relative = self._resolved(_names_of(path, self.root))
        self._objection_to(relative)
        if self._ignored.ignores(relative):
            raise PathRefused(f"{relative} is left out by an ignore file")
        if to_write and not relative.is_relative_to(self._output):
            raise PathRefused(f"{relative} is outside of the output root {self._output}: files are written below it only")
        return relative

    def admitted(self, relative: PurePosixPath, *, folder: bool = False) -> bool:
        """Whether a path relative to the root may be read, by its name alone (links are not looked at)."""
        try:
            self._objection_to(relative)
        except PathRefused:
            return False
        return ".." not in relative.parts and not self._ignored.ignores(relative, folder=folder)

    def _resolved(self, names: list[str]) -> PurePosixPath:
        resolved: list[str] = []
        pending = list(reversed(names))
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                if not resolved:
                    raise PathRefused("this path leads out of the workspace")
                resolved.pop()
                continue
            target = _target_of(self.root.joinpath(*resolved, name))
            if target is None:
                resolved.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise PathRefused("this path goes through too many symbolic links")
            if target.startswith("/"):
                resolved = []
            pending += reversed(_names_of(target, self.root))
        return PurePosixPath(*resolved)

    def _objection_to(self, relative: PurePosixPath) -> None:
        if any(name.casefold() == ".git" for name in relative.parts):
            raise PathRefused(f"{relative} belongs to Git: .git is neither read nor written")
        if is_secret(f"/{relative}", self._secret_globs):
            raise PathRefused(f"{relative} looks as if it held secrets: such files are neither read nor written")
        place = self.root / relative
        if any(place.is_relative_to(folder) for folder in self._protected):
            raise PathRefused(f"{relative} belongs to the agent's own records: they are neither read nor written")

    # -- reading --------------------------------------------------------------------------------------------------------------

    def read(self, relative: PurePosixPath) -> bytes:
        """The bytes of a resolved path. Raises `ToolFailed`, `PathRefused`."""
        data = self.read_if_there(relative)
        if data is None:
            raise ToolFailed(f"there is no file {relative}")
        return data

    def read_if_there(self, relative: PurePosixPath) -> bytes | None:
        """The same; None where there is no such file."""
        if relative in self._written:
            return self._written[relative]
        if not relative.parts:
            raise ToolFailed("the workspace itself is a folder, not a file")
        with _told(relative):
            try:
                with self._folder(relative.parts[:-1]) as folder:
                    handle = os.open(relative.name, _READ, dir_fd=folder)
            except FileNotFoundError:
                return None
            try:
                found = os.fstat(handle)
                if stat.S_ISDIR(found.st_mode):
                    raise ToolFailed(f"{relative} is a folder, not a file")
                if not stat.S_ISREG(found.st_mode):
                    raise PathRefused(f"{relative} is no ordinary file")
                with os.fdopen(handle, "rb", closefd=False) as file:
                    data = file.read(MOST_FILE_BYTES + 1)
            finally:
                os.close(handle)
        if len(data) > MOST_FILE_BYTES:
            raise ToolFailed(f"{relative} has more than {MOST_FILE_BYTES >> 20} MiB: too large to be read")
        return data

    def files(self, under: PurePosixPath | None = None) -> Iterator[PurePosixPath]:
        """Every ordinary file below a folder, or that file, that may be read, sorted by folder and name; at most `MOST_FILES`.
        Links are left out."""
        top = under or PurePosixPath()
        if top.parts and _is_ordinary_file(self.root / top) and top not in self._written:
            yield top
            return
        found = {path for path, data in self._written.items() if data is not None and path.is_relative_to(top)}
        with suppress(FileNotFoundError, NotADirectoryError), self._folder(top.parts) as handle:
            for folder, folders, names, inner in os.fwalk(".", dir_fd=handle, follow_symlinks=False):
                here = top / folder
                folders[:] = sorted(name for name in folders if self.admitted(here / name, folder=True))
                for name in names:
                    path = here / name
                    if path not in self._written and self.admitted(path) and _ordinary(name, inner) and _printable(name):
                        found.add(path)
                if len(found) >= MOST_FILES:
                    break
        yield from sorted(found, key=lambda path: path.parts)[:MOST_FILES]

    # -- writing --------------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        """Make changes, each only where the file still is what it was. Raises `ToolFailed`, `PathRefused`; what was changed
        before a failure is put back."""
        done: list[Change] = []
        try:
            for change in changes:
                self._apply(change)
                done.append(change)
        except Exception:
            for change in reversed(done):
                self._put(change.path, change.before)
            raise

    def _apply(self, change: Change) -> None:
        if self.resolve(str(change.path), to_write=True) != change.path:
            raise PathRefused(f"{change.path} has become a symbolic link meanwhile")
        if self.read_if_there(change.path) != change.before:
            raise ToolFailed(f"{change.path} has changed meanwhile: read it again")
        if change.after is not None and len(change.after) > MOST_FILE_BYTES:
            raise ToolFailed(f"{change.path} would have more than {MOST_FILE_BYTES >> 20} MiB")
        self._put(change.path, change.after)

    def _put(self, relative: PurePosixPath, data: bytes | None) -> None:
        if self.dry_run:
            self._written[relative] = data
            return
        with _told(relative), self._folder(relative.parts[:-1], make=data is not None) as folder:
            if data is None:
                os.unlink(relative.name, dir_fd=folder)
                return
            mode = 0o666
            with suppress(FileNotFoundError):
                found = os.stat(relative.name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise PathRefused(f"{relative} is no ordinary file")
                mode = stat.S_IMODE(found.st_mode)
            draft = f".simplecoder-{secrets.token_hex(8)}"
            handle = os.open(draft, _CREATE, mode, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    if mode != 0o666:
                        os.fchmod(handle, mode)
                os.replace(draft, relative.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)
                raise

    @contextmanager
    def _folder(self, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder, reached from the root without a link on the way."""
        handle = os.open(self.root, _FOLDER)
        try:
            found = os.fstat(handle)
            if (found.st_dev, found.st_ino) != self._identity:
                raise PathRefused("the workspace is not the folder any more that it was at the start")
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=handle)
                deeper = os.open(name, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = deeper
            yield handle
        finally:
            os.close(handle)


def _names_of(path: str, root: Path) -> list[str]:
    """The names of a path below the root, `.` and empty ones left out. Raises `PathRefused`."""
    if not path.strip() or len(path) > _MOST_PATH_CHARS:
        raise PathRefused(f"a path has 1 to {_MOST_PATH_CHARS} characters")
    if not _printable(path):
        raise PathRefused("a path holds no control characters and nothing that is no UTF-8")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/"):
        own = list(root.parts[1:])
        if names[: len(own)] != own:
            raise PathRefused("this path leads out of the workspace: use paths relative to it")
        names = names[len(own) :]
    if any(len(name.encode()) > _MOST_NAME_BYTES for name in names):
        raise PathRefused("a name in this path is too long")
    return names


def _target_of(place: Path) -> str | None:
    """Where a symbolic link leads; None for what is none. Raises `PathRefused`."""
    try:
        return str(place.readlink())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # there, and no link
            return None
        raise PathRefused(f"this path cannot be looked at: {error.strerror}") from error


def _printable(text: str) -> bool:
    """No control character, no lone surrogate."""
    return not any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in text)


def _is_ordinary_file(place: Path) -> bool:
    try:
        return stat.S_ISREG(place.lstat().st_mode)
    except OSError:
        return False


def _ordinary(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False  # gone meanwhile


@contextmanager
def _told(relative: PurePosixPath) -> Iterator[None]:
    """What the system says of a file, as ours."""
    try:
        yield
    except (PathRefused, ToolFailed):
        raise
    except OSError as error:
        raise ToolFailed(f"{relative}: {error.strerror}") from error
