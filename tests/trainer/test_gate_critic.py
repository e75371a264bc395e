from __future__ import annotations

from coderl_gate import default_artifact
from coderl_generator.backend import FinishReason, Token
from coderl_generator.extract import Extracted
from coderl_generator.stop_rules import Reason
from coderl_trainer.gate_critic import GateCritic
from coderl_trainer.rewards import Attempt, RewardConfig, Rewards
from coderl_trainer.tasks import shipped_tasks
from coderl_trainer.types import Task, TaskKind

KNOWN = "smollm2-135m-instruct-q4_1"
TASK = Task("t", TaskKind.INFILL, "def add(a, b):\n    return ", suffix="\n", reference="a + b")


def written(text: str, *logprobs: float) -> Extracted:
    tokens = tuple(Token("x", 1, logprob) for logprob in logprobs)
    return Extracted(text, tokens, len(tokens), FinishReason.STOP, Reason.LINE)


def test_the_gate_judges_an_answer() -> None:
    critic = GateCritic(default_artifact(), KNOWN)
    sure, doubtful = (critic.score(TASK, "a + b", written("a + b", *[one] * 4)) for one in (-0.01, -3.0))
    assert 0 <= doubtful < sure <= 1


def test_it_does_not_learn_from_what_it_scores() -> None:
    """…and an answer's score does not depend on what was scored before."""
    tasks = shipped_tasks()[:5]
    critic = GateCritic(default_artifact(), KNOWN)
    asked = [(task, text) for task in tasks for text in (task.reference or "", "None", "x = 1")] * 8
    told = [critic.score(task, text, written(text, -0.5, -1.0)) for task, text in asked]
    fresh = [GateCritic(default_artifact(), KNOWN).score(task, text, written(text, -0.5, -1.0)) for task, text in asked[:15]]
    assert told == fresh * 8
    assert len(set(fresh)) > 5


def test_no_text_is_never_kept_and_an_unknown_generator_is_no_trouble() -> None:
    critic = GateCritic(default_artifact(), "a model nobody measured")
    assert critic.score(TASK, " ", None) == 0
    score = critic.score(TASK, "a + b", None)
    assert score == critic.score(TASK, "a + b", written("a + b", -0.1))
    assert 0 <= score <= 1


def test_it_is_a_part_of_the_reward() -> None:
    rewards = Rewards(RewardConfig({"agreement": 1.0, "critic": 0.01}), critic=GateCritic(default_artifact()))
    told = rewards.one(TASK, Attempt("a + b"))
    assert told.parts["critic"] is not None
    assert told.total is not None
    assert 1 < told.total < 1.01
