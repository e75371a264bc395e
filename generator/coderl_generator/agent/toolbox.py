"""From a call to an observation: the one place where a tool acts, behind the one place where it is allowed to.

A tool only *prepares*: it reads, checks, and says what it would do. `Toolbox` puts that before `Permissions` and acts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Protocol

from coderl_generator.errors import GeneratorError, JailFailed, JailUnavailable, PathRefused, ToolFailed

from .calls import Call, ToolSpec
from .edits import decoded, diff_of
from .permissions import Kind, Permissions, Request
from .workspace import Change, Workspace

MOST_OBSERVED_CHARS = 12_000
"""Of one observation; of a longer one the middle is left out."""


_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Outcome(StrEnum):
    """What became of a call."""

    DONE = "done"
    FAILED = "failed"
    """The tool could not do it; the observation says why."""
    REFUSED = "refused"
    """By the workspace's bounds."""
    DENIED = "denied"
    """By the user's permissions."""
    MALFORMED = "malformed"
    """It could not be read."""
    INTERRUPTED = "interrupted"
    """The run ended during it; whether it was done is not known."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the model is told, and what the record keeps."""

    text: str
    outcome: Outcome = Outcome.DONE
    diff: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a tool is about to do."""

    kind: Kind
    subjects: tuple[str, ...]
    act: Callable[[], str] = field(default=lambda: "")
    """Does it and says what came of it; of writing tools, what to say once `changes` are made."""
    changes: tuple[Change, ...] = ()
    """Files to change, which the toolbox does."""


class Tool(Protocol):
    """One tool."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told of it."""

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """Check and say what would be done, changing nothing. Raises `ToolFailed`, `PathRefused`."""


class Guard(Protocol):
    """Objects to changes of files that are not any more what the model was shown (`search_tool.ShownHits`)."""

    def check(self, changes: Sequence[Change]) -> None:
        """Raises `ToolFailed`."""

    def forget(self, path: PurePosixPath) -> None:
        """The run changed this file itself."""


class Toolbox:
    """The tools of one run."""

    def __init__(
        self,
        tools: Sequence[Tool],
        workspace: Workspace,
        permissions: Permissions,
        guard: Guard | None = None,
        most_chars: int = MOST_OBSERVED_CHARS,
    ) -> None:
        """`guard`: what has to be true of files before they are changed. `most_chars`: of one observation."""
        self._most_chars = most_chars
        self._guard = guard
        self._tools = {tool.spec.name: tool for tool in tools}
        self._workspace = workspace
        self._permissions = permissions

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of all of them."""
        return tuple(tool.spec for tool in self._tools.values())

    def run(self, call: Call) -> Observation:
        """Prepare, ask, act. Failures are observations; nothing is raised but what is a fault of this program."""
        try:
            prepared = self._tools[call.name].prepare(call.arguments)
            if self._guard is not None:
                self._guard.check(prepared.changes)
            diff = diff_of_changes(prepared.changes)
            ruling = self._permissions.rule(Request(prepared.kind, prepared.subjects, diff))
            if not ruling.granted:
                return Observation(f"Refused: {ruling.because}. Nothing was done.", Outcome.DENIED)
            self._workspace.apply(prepared.changes)
            if self._guard is not None:
                for change in prepared.changes:
                    self._guard.forget(change.path)
            text = capped(prepared.act(), self._most_chars)
        except PathRefused as error:
            return Observation(f"Refused: {error}.", Outcome.REFUSED)
        except (ToolFailed, JailFailed, JailUnavailable) as error:
            return Observation(capped(f"Failed: {error}", self._most_chars), Outcome.FAILED)
        if self._workspace.dry_run and prepared.changes:
            text += " (Dry run: kept in memory, no file was touched.)"
        return Observation(text, Outcome.DONE, diff, prepared.changes)


def diff_of_changes(changes: Sequence[Change]) -> str:
    """All of them as one unified diff; a file that is no text by a line that says so."""
    parts = []
    for change in changes:
        try:
            before, after = (decoded(data or b"", str(change.path)) for data in (change.before, change.after))
            parts.append(diff_of(before, after, str(change.path)))
        except GeneratorError:
            parts.append(f"Binary file {change.path} changes\n")
    return "".join(parts)


def capped(text: str, most: int = MOST_OBSERVED_CHARS) -> str:
    """A `cleaned` text with its middle left out where it is too long."""
    clean = cleaned(text)
    if len(clean) <= most:
        return clean
    half = most // 2
    return f"{clean[:half]}\n[… {len(clean) - 2 * half} characters left out …]\n{clean[-half:]}"


def cleaned(text: str) -> str:
    """A text that can be shown: what moves a terminal's cursor or turns the direction of writing, and what UTF-8 cannot hold,
    as `�`; line breaks and tabs stay."""
    return _UNSHOWABLE.sub("�", text.replace("\r\n", "\n"))
