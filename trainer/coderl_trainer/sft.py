"""Supervised warm-up: which rows a run learns from, and in which order. Pure.

A gap-filling model that reads only what is before the gap learns the same from every gap of a program as from the whole
program read once. So gaps of one problem become one row, the program from the earliest gap on; whole functions stay.

Where the model is to read the text behind a gap, every gap is a row of its own, and lines are cut out of whole functions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .errors import TaskError
from .types import Datum, Task, TaskKind

Encode = Callable[[str], Sequence[int]]


def texts(tasks: Sequence[Task]) -> list[tuple[str, str]]:
    """(what is given, what is learned) of all tasks with a reference."""
    rows: list[tuple[str, str]] = []
    gaps: dict[str, Task] = {}
    for task in tasks:
        if task.reference is None:
            continue
        if task.suffix is not None and task.stem is None:
            first = gaps.setdefault(task.problem, task)
            if len(task.prompt) < len(first.prompt):
                gaps[task.problem] = task
        else:
            rows.append((task.prompt, task.reference))
    for task in gaps.values():
        rows.append((task.prompt, f"{task.reference}{task.suffix}"))
    return rows


def line_gaps(tasks: Sequence[Task], lines: int, seed: int) -> list[Task]:
    """The tasks with a reference; of each whole function `lines` gaps of one line instead, drawn by the seed and the task's id
    and without tests. 0 = functions stay whole."""
    gaps: list[Task] = []
    for task in tasks:
        if task.reference is None:
            continue
        if task.suffix is not None or task.stem is not None or not lines:
            gaps.append(task)
            continue
        text = task.reference.splitlines(keepends=True)
        written = [at for at, line in enumerate(text) if line.strip()]
        for at in sorted(random.Random(f"{seed}:{task.id}").sample(written, min(lines, len(written)))):
            before, after = "".join(text[:at]), "".join(text[at + 1 :])
            gaps.append(
                replace(
                    task,
                    id=f"{task.id}/L{at}",
                    kind=TaskKind.INFILL,
                    prompt=task.prompt + before,
                    reference=text[at],
                    suffix=after,
                    visible_tests=(),
                    hidden_tests=(),
                    group_id=task.problem,
                )
            )
    return gaps


def datum(encode: Encode, given: str, learned: str, *, max_tokens: int = 1024) -> Datum:
    """One row; the text is cut into tokens as a whole, and a token with a part in `learned` is learned. Raises `TaskError`
    where there is nothing to learn.

    Given text loses its trailing whitespace to the learned one, as `coderl_generator.prompt` holds it back from a prompt.
    """
    kept = given.rstrip()
    tokens = list(encode(kept + given[len(kept) :] + learned.rstrip() + "\n"))
    before = _shared(tokens, encode(kept))
    tokens = tokens[:max_tokens]
    if before < 1 or before >= len(tokens):
        raise TaskError("A row has no prompt, or nothing is left to learn of it within the token budget.")
    width = len(tokens) - 1
    mask = (0.0,) * (before - 1) + (1.0,) * (width - before + 1)
    return Datum(tuple(tokens[:-1]), tuple(tokens[1:]), (0.0,) * width, (0.0,) * width, mask)


def batches(rows: Sequence[Datum], batch_tokens: int, epochs: int, seed: int) -> Iterator[list[Datum]]:
    """Every row once per epoch, in an order that seed and epoch decide, in batches of about `batch_tokens` positions."""
    for epoch in range(epochs):
        order = list(rows)
        random.Random(f"{seed}:{epoch}").shuffle(order)
        batch: list[Datum] = []
        tokens = 0
        for row in order:
            if batch and tokens + len(row.input_tokens) > batch_tokens:
                yield batch
                batch, tokens = [], 0
            batch.append(row)
            tokens += len(row.input_tokens)
        if batch:
            yield batch


def _shared(tokens: Sequence[int], begun: Sequence[int]) -> int:
    """How many of the first tokens both have: where the text cuts into other tokens at the seam, fewer than were begun."""
    count = 0
    for one, other in zip(tokens, begun, strict=False):
        if one != other:
            break
        count += 1
    return count
