"""The gate as critic: what it thinks of an answer, p2 = P(kept | context, suggestion), as a part of the reward.

Covered: the answer is scored as the language server would score it at that place, by a fixed artifact that does not learn
from what it scores. Not covered: what a task does not hold (rhythm, history, a syntax tree) is missing, as it is in an imported
log. The log-probs are the policy's own: a policy that grows more certain pleases a gate that reads them, without being any
better. Keep the weight small and a second gate apart, or fit the artifact without log-probs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from coderl_gate import Gate, GateArtifact, LogprobSummary, OnlineQuantiles, reference_table
from coderl_generator.extract import Extracted
from coderl_store.records import Context, Trigger

from .types import Task

_WHEN: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A task has no time of day; no feature reads it."""
_BEFORE_CHARS, _AFTER_CHARS = 6000, 2000
"""The windows that the log keeps."""


class GateCritic:
    """Scores answers by one artifact. Not safe for use from several threads."""

    def __init__(self, artifact: GateArtifact, generator_id: str = "") -> None:
        """`generator_id`: of the model the policy began as, whose distribution of log-probs is the yardstick; without a known
        one, log-probs are not looked at."""
        table = reference_table(generator_id)
        self._known = table is not None
        self._gate = Gate(artifact, generator_id, OnlineQuantiles(generator_id, random.Random(0), table))
        self._place: tuple[Task, Context, Mapping[str, float | None]] | None = None

    def score(self, task: Task, text: str, extracted: Extracted | None) -> float:
        """p2 in [0, 1]; 0 for no text, which nobody can keep. Raises `GateError`."""
        if not text.strip():
            return 0.0
        if self._place is None or self._place[0] is not task:
            context = _context(task)
            self._place = task, context, self._gate.before(context)[1]
        _, context, before = self._place
        told = LogprobSummary.of(extracted.own_logprobs) if extracted is not None and self._known else None
        return self._gate.after(context, before, text, told, anew=False)[0]


def _context(task: Task) -> Context:
    before, after = task.prompt, task.suffix or ""
    return Context(
        id=task.id,
        at=_WHEN,
        session_id=task.id,
        language=task.language,
        document_key=task.problem,
        line=before.count("\n"),
        character=len(before) - (before.rfind("\n") + 1),
        trigger=Trigger.AUTOMATIC,
        document_chars=len(before) + len(after),
        document_lines=(before + after).count("\n") + 1,
        offset_chars=len(before),
        prefix=before[-_BEFORE_CHARS:],
        suffix=after[:_AFTER_CHARS],
    )
