"""Files with gaps: TOML in which every task is a text to read, with its gap marked where it stands.

    source = "…"           of the whole file; licence likewise
    [[task]]
    id = "slug"
    tier = "easy"          easy, medium, hard
    entry_point = "slug"
    text = '''
    def slug(title: str) -> str:
        return ⟦title.strip().lower().replace(" ", "-")⟧
    '''
    tests = ["slug(' A b ') == 'a-b'", …]

Between ⟦ and ⟧ stands the reference: what is before is the prompt, what is after the suffix. A test is an expression that is
true where the answer is right (the `assert` is written here). `path`, `setup` and `group_id` may be given too.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from coderl_trainer.errors import TaskError
from coderl_trainer.types import Task

from .lines import collected
from .own import task_of

OPEN, CLOSE = "⟦", "⟧"
_KEYS = frozenset(("id", "tier", "entry_point", "text", "tests", "path", "setup", "group_id"))


def load_gaps(path: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Task]:
    """The tasks of a file. Raises `TaskError`, for bad TOML with the line, for a bad task with its number and id."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{path} is no TOML: {error}.") from error
    rows = table.pop("task", [])
    unknown = [key for key in table if key not in ("source", "licence")]
    if unknown or not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise TaskError(
            f"{path} holds {', '.join(unknown) or 'a `task` that is no table'}; it may hold [[task]], source and licence."
        )
    tasks = [_task(row, f"{path} task {number} ({row.get('id', 'without id')})", table) for number, row in enumerate(rows, 1)]
    return collected(tasks, path, leave_out)


def _task(row: dict[str, Any], where: str, shared: dict[str, Any]) -> Task:
    if unknown := sorted(set(row) - _KEYS):
        raise TaskError(f"{where}: {', '.join(unknown)} is no key of a task with a gap.")
    text, tests = row.get("text"), row.get("tests")
    if not isinstance(text, str) or text.count(OPEN) != 1 or text.count(CLOSE) != 1 or text.index(OPEN) > text.index(CLOSE):
        raise TaskError(f"{where}: `text` must hold one gap, {OPEN}the reference{CLOSE}.")
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise TaskError(f"{where}: `tests` must be a list of expressions.")
    prompt, _, rest = text.partition(OPEN)
    reference, _, suffix = rest.partition(CLOSE)
    told = {key: value for key, value in row.items() if key not in ("text", "tests")}
    made = {
        "kind": "infill",
        "prompt": prompt,
        "reference": reference,
        "suffix": suffix,
        "tests": [f"assert {test}" for test in tests],
    }
    return task_of({**shared, **told, **made}, where)
