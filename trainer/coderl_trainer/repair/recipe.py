"""How agents are run while one learns from their runs: the table `repair` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_trainer.errors import AgentUnusable, RecipeError, RewardError

from .agents import SIMPLECODER, Agent, Scaffold
from .settings import RepairRewards


@dataclass(frozen=True, slots=True)
class RepairRecipe:
    """Raises `RecipeError` where a value cannot be."""

    agent: str = SIMPLECODER
    """The command, with words in braces (`coderl_trainer.repair.agents`)."""
    scaffold: Scaffold = Scaffold.NANO
    max_steps: int = 20
    wall_s: float = 600.0
    """Of one run."""
    turn_tokens: int = 512
    """Most tokens of one answer of the model."""
    row_tokens: int = 4096
    """Conversations of more tokens are not learned from."""
    parallel: int = 2
    """Runs at a time."""
    reads: tuple[str, ...] = ()
    """Folders that agents may read beside the system and Python."""
    similarity: float = 0.05
    similarity_cap: float = 0.8
    fractional: bool = False
    """Reward the share of failing tests that pass, not only all of them."""

    def __post_init__(self) -> None:
        if min(self.parallel, self.turn_tokens, self.row_tokens) < 1 or self.wall_s <= 0:
            raise RecipeError("repair.parallel, repair.turn_tokens, repair.row_tokens, repair.wall_s: too small.")
        try:
            _ = self.agent_of(), self.rewards
        except (AgentUnusable, RewardError) as error:
            raise RecipeError(f"repair: {error}") from error

    def agent_of(self) -> Agent:
        """The agent that is run."""
        return Agent(self.agent, scaffold=self.scaffold, max_steps=self.max_steps)

    @property
    def rewards(self) -> RepairRewards:
        """What repairs are worth."""
        return RepairRewards(self.similarity, self.similarity_cap, self.fractional)
