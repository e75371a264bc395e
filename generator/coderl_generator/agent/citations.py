"""Whether what an answer cites is there. Pure but for reading."""

from __future__ import annotations

import re
from dataclasses import dataclass

from coderl_generator.errors import PathRefused, ToolFailed

from .edits import decoded, lines_of
from .workspace import Workspace

_CITED = re.compile(
    r"(?<![\w/.-])([\w./-]{1,200}\.\w{1,20}|[\w./-]{0,200}/[\w.-]{1,80}|[A-Z]\w{1,40}):(\d{1,7})(?:[-–](\d{1,7}))?\b"
)


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in a file that an answer names."""

    text: str
    objection: str
    """Empty where there is such a place."""


def citations(answer: str, workspace: Workspace) -> tuple[Citation, ...]:
    """Every `path:line` and `path:first-last` of an answer, each once, checked against the files as they are now."""
    found: dict[str, Citation] = {}
    for match in _CITED.finditer(answer):
        path, first, last = match[1], int(match[2]), int(match[3] or match[2])
        found.setdefault(match[0], Citation(match[0], _objection(path, first, last, workspace)))
    return tuple(found.values())


def _objection(path: str, first: int, last: int, workspace: Workspace) -> str:
    try:
        resolved = workspace.resolve(path)
        lines = len(lines_of(decoded(workspace.read(resolved), path)))
    except (PathRefused, ToolFailed) as error:
        return str(error)
    return "" if 1 <= first <= last <= lines else f"{path} has {lines} lines"
