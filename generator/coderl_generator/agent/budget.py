"""What a run may use, and what it used. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .chat import Reply


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one run; None = no limit."""

    steps: int = 30
    """Replies of the model, plans and summaries included."""
    tokens: int | None = None
    """Prompt and reply tokens, each time they are read or written."""
    wall_s: float | None = 1800.0
    cost: float | None = None
    """In the currency of the prices."""
    prompt_price: float = 0.0
    """Per million tokens."""
    reply_price: float = 0.0

    def over(self, spent: Spent) -> str:
        """What was used up, in words; empty while there is some of everything."""
        if spent.steps >= self.steps:
            return f"{self.steps} steps"
        if self.tokens is not None and spent.tokens >= self.tokens:
            return f"{self.tokens} tokens"
        if self.wall_s is not None and spent.wall_s >= self.wall_s:
            return f"{self.wall_s:g} s"
        if self.cost is not None and self.price(spent) >= self.cost:
            return f"a cost of {self.cost:g}"
        return ""

    def price(self, spent: Spent) -> float:
        """What it cost so far."""
        return (spent.prompt_tokens * self.prompt_price + spent.reply_tokens * self.reply_price) / 1e6

    def warning(self, spent: Spent) -> str:
        """A word for the model when an end is near; empty before."""
        left = self.steps - spent.steps
        if left <= 3:
            return f"[{left} step{'' if left == 1 else 's'} left: come to an answer.]"
        if self.tokens is not None and spent.tokens > 0.8 * self.tokens:
            return f"[{self.tokens - spent.tokens} tokens left: come to an answer.]"
        if self.wall_s is not None and spent.wall_s > 0.8 * self.wall_s:
            return "[Little time is left: come to an answer.]"
        return ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run used so far."""

    steps: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    wall_s: float = 0.0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.reply_tokens

    def plus(self, reply: Reply, estimated_prompt: int) -> Spent:
        """After one more reply; what the endpoint did not count is estimated."""
        written = reply.completion_tokens if reply.completion_tokens is not None else len(reply.text) // 4 + 1
        prompt = reply.prompt_tokens if reply.prompt_tokens is not None else estimated_prompt
        return Spent(self.steps + 1, self.prompt_tokens + prompt, self.reply_tokens + written, self.wall_s)

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)
