"""The turns of one agent run as rows to learn from. Pure.

A turn whose prompt begins with everything that stands in a sequence goes on with it: what is new in the prompt (answers of
tools, the agent's own words) is put in with mask 0, the model's tokens with mask 1. A turn whose prompt does not (a compacted
history, a chat template that leaves out what it wrote before, a second conversation) begins a sequence of its own. Nothing is
tokenised again, so every token of the policy is learned from with the log-prob under which it was drawn, after exactly the
tokens that stood before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coderl_trainer.types import Datum

from .chat_wire import Turn


@dataclass(slots=True)
class TokenSequence:
    """One conversation. All three have one length T."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """0 where `mask` is 0."""
    mask: list[float] = field(default_factory=list)

    def goes_on_in(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt begins with all of it."""
        return len(prompt) >= len(self.tokens) and list(prompt[: len(self.tokens)]) == self.tokens

    def add(self, turn: Turn) -> None:
        """Go on with a turn whose prompt begins with all of it."""
        new = turn.prompt[len(self.tokens) :]
        self.tokens += [*new, *turn.tokens]
        self.logprobs += [*([0.0] * len(new)), *turn.logprobs]
        self.mask += [*([0.0] * len(new)), *([1.0] * len(turn.tokens))]

    @property
    def drawn(self) -> int:
        """Tokens of the policy."""
        return sum(map(int, self.mask))

    def datum(self, advantage: float, weight: float = 1.0) -> Datum:
        """The row: next-token prediction, the advantage on each token of the policy."""
        mask = tuple(self.mask[1:])
        return Datum(
            input_tokens=tuple(self.tokens[:-1]),
            target_tokens=tuple(self.tokens[1:]),
            behaviour_logprobs=tuple(self.logprobs[1:]),
            advantages=tuple(advantage * counts for counts in mask),
            mask=mask,
            weight=weight,
        )


def merged(turns: Sequence[Turn]) -> list[TokenSequence]:
    """The turns of a run, in the order in which they were asked, as few sequences as they make."""
    sequences: list[TokenSequence] = []
    for turn in turns:
        known = [one for one in sequences if one.goes_on_in(turn.prompt)]
        if not known:
            known = [TokenSequence()]
            sequences.append(known[0])
        max(known, key=lambda one: len(one.tokens)).add(turn)
    return sequences
