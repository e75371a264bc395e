"""A recorded run again, without a model: its calls, in order, on a copy of the workspace as it was.

The copy begins with the workspace's files of now; those that the run changed are put back to what they were before it, as the
record holds them. Then every call is made again and its outcome compared. Calls that the user denied, that could not be read,
or during which the run was interrupted, are passed over. The workspace itself is not touched.

Not compared: durations and addresses in the output of programs (`0.03s`, `0x7f…`). Not restored: what others changed since
then; the first call that sees it is reported as the divergence.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coderl_generator.globs import DEFAULT_SECRET_GLOBS

from .calls import Call
from .toolbox import Outcome, Toolbox
from .trajectory import Trajectory, bytes_of_json
from .workspace import Workspace

_VOLATILE: Final = re.compile(r"\b\d+(?:\.\d+)?\s?(?:ms|s|seconds)\b|\b0x[0-9a-f]{6,}\b")
_PASSED_OVER: Final = frozenset({Outcome.DENIED, Outcome.MALFORMED, Outcome.INTERRUPTED})


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first call that came out otherwise."""

    number: int
    """Among the calls of the record, from 1."""
    tool: str
    arguments: dict[str, Any]
    recorded: str
    now: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found."""

    calls: int
    """Made again, with the one that diverged."""
    passed_over: int
    divergence: Divergence | None


def replay(trajectory: Trajectory, root: Path, toolbox_for: Callable[[Workspace, Path], Toolbox]) -> Replayed:
    """`toolbox_for` makes the recorded run's tools for a copy of the workspace `root`, with a folder for scratch files."""
    made = passed_over = 0
    with tempfile.TemporaryDirectory(prefix="simplecoder-") as scratch:
        copy = Path(scratch) / "workspace"
        config = trajectory.start["config"]
        never = (*DEFAULT_SECRET_GLOBS, *config["hidden"])
        _copy(Workspace(root, protected=(trajectory.path,), secret_globs=never), copy)
        _restore(trajectory, copy)
        workspace = Workspace(copy, copy / config["output_root"], secret_globs=never, dry_run=config["dry_run"])
        toolbox = toolbox_for(workspace, Path(scratch))
        for number, line in enumerate(trajectory.of("call"), 1):
            if line["outcome"] in _PASSED_OVER:
                passed_over += 1
                continue
            made += 1
            arguments = _moved(line["arguments"], trajectory.start["workspace"], str(copy))
            observation = toolbox.run(Call(line["id"], line["tool"], arguments))
            if (str(observation.outcome), _stable(observation.text)) != (line["outcome"], _stable(line["observation"])):
                recorded, now = f"{line['outcome']}: {line['observation']}", f"{observation.outcome}: {observation.text}"
                return Replayed(made, passed_over, Divergence(number, line["tool"], line["arguments"], recorded, now))
    return Replayed(made, passed_over, None)


def _copy(workspace: Workspace, target: Path) -> None:
    target.mkdir()
    for path in workspace.files():
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(workspace.read(path))


def _restore(trajectory: Trajectory, copy: Path) -> None:
    """Put the files that the run changed back to what they were before its first change of each."""
    seen: set[str] = set()
    for line in trajectory.of("call"):
        for name, before in line.get("before", {}).items():
            if name in seen:
                continue
            seen.add(name)
            data, place = bytes_of_json(before), copy / name
            if data is None:
                place.unlink(missing_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)


def _moved(arguments: dict[str, Any], root: str, copy: str) -> dict[str, Any]:
    """With an absolute path as one of the copy."""
    path = arguments.get("path")
    if isinstance(path, str) and (path == root or path.startswith(f"{root}/")):
        return {**arguments, "path": copy + path[len(root) :]}
    return arguments


def _stable(text: str) -> str:
    return _VOLATILE.sub("#", text)
