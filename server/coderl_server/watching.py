"""Stop paying for text that will be withheld: stage 2 looks at a suggestion while it is written.

What is half written is judged as if it were whole, which is unfair to it: so it is given up only where it would be withheld
even if it were `SLACK` times as likely to be kept and as long as a suggestion gets (a longer one is worth more), and where its
estimate has not risen since the look before. A random trial that would show what the gate withholds is never given up, and
neither is what was asked for: the policy that decides in the end is asked here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from coderl_gate.costs import CostParameters, costs_of
from coderl_gate.features import LogprobSummary
from coderl_gate.gate import Gate
from coderl_gate.policy import Policy, Request, decide
from coderl_generator.extract import Extracted, Mode
from coderl_store.records import Action, Context

SLACK: Final = 1.5
LINE_CHARS: Final = 80
BLOCK_CHARS: Final = 400
"""Lengths that few suggestions exceed (Copilot's 95th percentile of a line is 73 characters)."""


class Watch:
    """A `coderl_generator.complete.Watch` for one request."""

    def __init__(
        self,
        gate: Gate,
        policy: Policy,
        request: Request,
        context: Context,
        costs: CostParameters,
        mode: Mode,
        waited_s: Callable[[], float],
    ) -> None:
        """`request`, `context` and `costs` as they were before generation; `waited_s` as in `coderl_gate.costs.costs_of`."""
        self._gate = gate
        self._policy = policy
        self._request = request
        self._context = context
        self._costs = costs
        self._chars = LINE_CHARS if mode is Mode.SINGLE_LINE else BLOCK_CHARS
        self._waited_s = waited_s
        self._last: float | None = None

    def __call__(self, so_far: Extracted) -> bool:
        """Whether it is not worth going on. Raises GateError."""
        if not so_far.text.strip():
            return False
        before: Mapping[str, float | None] = self._context.features
        p2, _ = self._gate.after(self._context, before, so_far.text, LogprobSummary.of(so_far.own_logprobs), anew=False)
        last, self._last = self._last, p2
        if last is None or p2 > last:
            return False
        lines = so_far.text.count("\n") + 1
        longest = costs_of(max(len(so_far.text), self._chars), lines, self._costs, self._waited_s())
        best = replace(self._request, p2=min(1.0, SLACK * p2), costs=longest)
        return decide(best, self._policy).action is Action.WITHHOLD
