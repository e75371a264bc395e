"""Whether a tool may do what it is about to do: asked once, for this run, always, or never.

The decision is made here, between a tool's preparation and its act, from what the user said on the command line, at the
terminal and in earlier runs. Nothing that a model writes or a file holds is read: neither `Permissions` nor the file of lasting
grants can be reached by a tool (`workspace.Workspace` is given that folder as protected).

Order: read-only mode, denials, grants, then the question; where nobody can be asked, what was not granted is denied.
Not covered: what a program does that the user granted to run (that is the jail's part), and a user who grants without reading.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

from coderl_generator.errors import GeneratorError
from coderl_generator.globs import matches

_FORMAT = 1


class Kind(StrEnum):
    """What a tool does."""

    READ = "read"
    WRITE = "write"
    SHELL = "shell"
    """Run a program in the jail, on a copy of the workspace."""


class Consent(StrEnum):
    """What the user answers."""

    ONCE = "once"
    RUN = "run"
    ALWAYS = "always"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Request:
    """One act, before it is done."""

    kind: Kind
    subjects: tuple[str, ...]
    """Paths relative to the workspace, or the command."""
    preview: str = ""
    """A diff, for the user to look at."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`write`, `write:docs/**`, `shell:make test`: a kind, and which paths (gitignore style) or which command exactly."""

    kind: Kind
    pattern: str = ""

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises `GeneratorError` with the kinds there are."""
        kind, _, pattern = text.partition(":")
        if kind.strip() not in list(Kind):
            raise GeneratorError(f"{text!r} is no permission: write {', '.join(Kind)}, or one with a pattern as write:docs/**")
        return cls(Kind(kind.strip()), pattern.strip())

    def __str__(self) -> str:
        return f"{self.kind}:{self.pattern}" if self.pattern else str(self.kind)

    def covers(self, kind: Kind, subject: str) -> bool:
        """Whether it speaks of this act."""
        if kind is not self.kind:
            return False
        if not self.pattern:
            return True
        return subject == self.pattern if kind is Kind.SHELL else matches(f"/{subject}", (self.pattern,))


@dataclass(frozen=True, slots=True)
class Ruling:
    """What was decided, and why, in words for the model and the record."""

    granted: bool
    because: str


class LastingGrants:
    """What was granted always in one workspace: a file of the user's data folder, which no tool can write."""

    def __init__(self, folder: Path, root: Path) -> None:
        """`folder`: where such files are; `root`: the workspace."""
        self._root = str(root.resolve())
        self.path = folder / f"{blake2b(self._root.encode(), digest_size=16).hexdigest()}.json"

    def read(self) -> tuple[Rule, ...]:
        """Raises `GeneratorError` where the file is damaged: a permission is never guessed."""
        if not self.path.exists():
            return ()
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["format"] != _FORMAT or data["workspace"] != self._root:
                raise ValueError("it belongs to another version or workspace")
            return tuple(Rule.parse(text) for text in data["always"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, GeneratorError) as error:
            raise GeneratorError(f"the permissions in {self.path} cannot be read ({error}); delete the file") from error

    def add(self, kind: Kind) -> None:
        """Grant a kind for good. Raises `GeneratorError` where the file cannot be written."""
        always = sorted({*map(str, self.read()), str(kind)})
        draft = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(json.dumps({"format": _FORMAT, "workspace": self._root, "always": always}), encoding="utf-8")
            draft.replace(self.path)
        except OSError as error:
            raise GeneratorError(f"the permission cannot be kept in {self.path}: {error.strerror}") from error


class Permissions:
    """Decides. Reading is granted unless denied; writing and running are asked for unless granted."""

    def __init__(
        self,
        allowed: Sequence[Rule] = (),
        denied: Sequence[Rule] = (),
        *,
        ask: Callable[[Request], Consent] | None = None,
        lasting: LastingGrants | None = None,
        read_only: bool = False,
    ) -> None:
        """`ask`: puts the question to a person; None = there is nobody. `lasting`: what `always` is kept in."""
        self._allowed = (Rule(Kind.READ), *allowed, *(lasting.read() if lasting else ()))
        self._denied = tuple(denied)
        self._ask = ask
        self._lasting = lasting
        self._read_only = read_only
        self._this_run: frozenset[Kind] = frozenset()

    def rule(self, request: Request) -> Ruling:
        """Decide one act; may ask the user, and then remembers for the run, or for good, if that is the answer."""
        kind = request.kind
        if self._read_only and kind is Kind.WRITE:
            return Ruling(False, "this run is read-only")
        if any(rule.covers(kind, subject) for rule in self._denied for subject in request.subjects):
            return Ruling(False, f"the user denied {kind} here")
        covered = [any(rule.covers(kind, subject) for rule in self._allowed) for subject in request.subjects]
        if covered and all(covered):
            return Ruling(True, "granted")
        if kind in self._this_run:
            return Ruling(True, "granted for this run")
        if self._ask is None:
            return Ruling(False, f"{kind} was not granted, and there is nobody to ask")
        consent = self._ask(request)
        if consent is Consent.DENY:
            return Ruling(False, "the user said no")
        if consent in (Consent.RUN, Consent.ALWAYS):
            self._this_run |= {kind}
        if consent is Consent.ALWAYS and self._lasting is not None:
            self._lasting.add(kind)
        return Ruling(True, f"the user said {consent}")
