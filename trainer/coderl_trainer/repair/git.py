"""The harness's own git repository of one task: its base commit, the fixed commit, and what an agent left, as trees.

It lies outside the agent's reach. Nothing of the agent's copy is trusted: git never runs in that folder and never reads its
`.git`, configuration, hooks, attributes, ignore files or index; contents come in as plain bytes (`trees.read_tree`). So files
that git would not track or would ignore are counted, and a commit, an amended history or a fresh clone in the copy hides
nothing: the comparison is always with the base commit here.

Not covered: faults of the git program itself when it reads objects that it wrote; and the repository that a task names by
path, which is fetched from as it stands and has to be the user's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from coderl_trainer.errors import GitFailed

from .trees import Entry, Tree

_TIMEOUT_S: Final = 300.0
_DATE: Final = "1767225600 +0000"
"""Of every commit: equal trees give equal commits."""
_WHO: Final = "CodeRL <coderl@localhost>"


class HarnessRepository:
    """A bare repository in a folder of its own. Raises `GitFailed` wherever git is missing or refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._git("init", "--quiet", "--bare", "--template=", str(folder), inside=False)

    def commit(self, tree: Tree, parent: str = "") -> str:
        """The id of a commit of exactly this tree; nothing else of it depends on place or time."""
        script = [b"commit refs/heads/made\n", f"committer {_WHO} {_DATE}\n".encode(), b"data 0\n\n"]
        if parent:
            script.append(f"from {parent}\n".encode())
        script.append(b"deleteall\n")
        for name, entry in sorted(tree.items()):
            path = _quoted(os.fsencode(name))
            script += [f"M {entry.mode} inline ".encode(), path, f"\ndata {len(entry.data)}\n".encode(), entry.data, b"\n"]
        script += [b"\ndone\n"]
        self._git("update-ref", "-d", "refs/heads/made")
        self._git("fast-import", "--quiet", "--done", "--force", stdin=b"".join(script))
        return self._git("rev-parse", "refs/heads/made").decode().strip()

    def fetch(self, repository: Path, commit: str) -> str:
        """The id of a commit without parents that holds the tree of `commit` of another repository on this machine."""
        if not repository.is_dir():
            raise GitFailed(f"there is no git repository at {repository}")
        self._git("fetch", "--quiet", "--no-tags", "--depth=1", str(repository.absolute()), commit)
        tree = self._git("rev-parse", "FETCH_HEAD^{tree}").decode().strip()
        return self._git("commit-tree", tree, stdin=b"").decode().strip()

    def patched(self, base: str, patch: str) -> str:
        """The id of a commit on `base` with a unified diff applied. Raises `GitFailed` where it does not apply."""
        index = {"GIT_INDEX_FILE": str(self.folder / "patch.index")}
        self._git("read-tree", base, more=index)
        self._git("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch.encode(), more=index)
        tree = self._git("write-tree", more=index).decode().strip()
        return self._git("commit-tree", tree, "-p", base, stdin=b"").decode().strip()

    def tree(self, commit: str) -> Tree:
        """The files of a commit; submodules are left out."""
        found: dict[str, Entry] = {}
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit)
        rows = [row.split(b"\t", 1) for row in listed.split(b"\0") if row]
        known = [(*head.split(), name) for head, name in rows]
        blobs = [(mode, sha, name) for mode, kind, sha, name in known if kind == b"blob"]
        told = self._git("cat-file", "--batch", stdin=b"".join(sha + b"\n" for _, sha, _ in blobs))
        at = 0
        for mode, _, name in blobs:
            end = told.index(b"\n", at)
            size = int(told[at:end].rsplit(b" ", 1)[1])
            found[os.fsdecode(name)] = Entry(told[end + 1 : end + 1 + size], mode.decode())
            at = end + size + 2
        return found

    def diff(self, old: str, new: str) -> str:
        """What changed, as git writes it; binary files are only named."""
        options = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
        return self._git("diff", *options, old, new).decode("utf-8", errors="replace")

    def _git(
        self, *arguments: str, stdin: bytes | None = None, more: Mapping[str, str] | None = None, inside: bool = True
    ) -> bytes:
        environment = {**_environment(self.folder), **({"GIT_DIR": str(self.folder)} if inside else {}), **(more or {})}
        return run_git(arguments, environment, cwd=self.folder if inside else self.folder.parent, stdin=stdin)


def start_history(folder: Path, message: str) -> None:
    """Make a folder a repository of one commit, for the agent to work in: no remote, no hook, no other history."""
    environment = _environment(folder)
    for arguments in (
        ("init", "--quiet", "--template=", "--initial-branch=main"),
        ("add", "--all", "--force"),
        ("commit", "--quiet", "--allow-empty", "--no-verify", "-m", message),
    ):
        run_git(arguments, environment, cwd=folder)


def run_git(arguments: Sequence[str], environment: Mapping[str, str], *, cwd: Path, stdin: bytes | None = None) -> bytes:
    """What git prints. Raises `GitFailed` with what it says."""
    program = shutil.which("git")
    if program is None:
        raise GitFailed("git is not here: repairs need it (apt-get install git)")
    try:
        done = subprocess.run(
            [program, *arguments], env=dict(environment), cwd=cwd, input=stdin or b"", capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(f"git {arguments[0]} did not run: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise GitFailed(f"git {arguments[0]} failed: {said or done.returncode}")
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    """Nobody's configuration and no variable of git's but these."""
    who, _, address = _WHO.partition(" <")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "4",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": os.devnull,
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        **{f"GIT_CONFIG_KEY_{number}": f"core.protect{system}" for number, system in ((2, "NTFS"), (3, "HFS"))},
        **{f"GIT_CONFIG_VALUE_{number}": "false" for number in (2, 3)},
        **{f"GIT_{role}_NAME": who for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": address.rstrip(">") for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_DATE": _DATE for role in ("AUTHOR", "COMMITTER")},
    }


def _quoted(path: bytes) -> bytes:
    """As fast-import reads a path with anything in it."""
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'
