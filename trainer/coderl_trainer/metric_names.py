"""The names of a run's metrics: one flat name per figure, with its unit and meaning.

Names and meanings are those of TRL's GRPO trainer where it has the figure, so that its plots and ours can be laid side by side.
What it has not (why groups were skipped, visible against hidden tests, where the time went) is ours. A step is a *rollout
step*: groups are sampled, judged and learned from, in none, one or several gradient steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

NAME: Final = re.compile(r"[a-z0-9_]+(?:/[A-Za-z0-9_.-]+)*")
"""What a metric may be called; others than `METRICS` are welcome, such as `rewards/<part>/mean` and `rewards/<part>/std`."""
RESERVED: Final = frozenset({"step", "time_s", "not_finite"})
"""Names that a row gives itself."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a step."""

    unit: str
    """Empty = a pure number, in the reward's own units, or nats where `doc` says so."""
    doc: str
    trl: bool = False
    """TRL has the same name with the same meaning."""


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "reward": Metric("", "mean reward of the samples that have one", trl=True),
        "reward_std": Metric("", "standard deviation of the rewards within a group, mean over groups", trl=True),
        "frac_reward_zero_std": Metric("share", "groups whose rewards are all equal", trl=True),
        "completions/mean_length": Metric("tokens", "mean length of a sample", trl=True),
        "completions/min_length": Metric("tokens", "length of the shortest sample", trl=True),
        "completions/max_length": Metric("tokens", "length of the longest sample", trl=True),
        "completions/clipped_ratio": Metric("share", "samples that were cut off at the token budget", trl=True),
        "kl": Metric("nats", "mean divergence from the reference per token, k3 estimate", trl=True),
        "entropy": Metric("nats", "mean entropy of the next token", trl=True),
        "clip_ratio/low_mean": Metric("share", "tokens whose ratio was clipped from below", trl=True),
        "clip_ratio/high_mean": Metric("share", "tokens whose ratio was clipped from above", trl=True),
        "clip_ratio/region_mean": Metric("share", "tokens whose ratio was clipped", trl=True),
        "learning_rate": Metric("", "of the last gradient step", trl=True),
        "grad_norm": Metric("", "L2 norm of the gradient before it is clipped", trl=True),
        "loss": Metric("", "mean loss of the gradient steps", trl=True),
        "num_tokens": Metric("tokens", "prompt and completion tokens so far", trl=True),
        "gradient_step": Metric("steps", "gradient steps so far"),
        "groups": Metric("groups", "groups sampled, those skipped among them"),
        "skipped/all_pass": Metric("share", "of the sampled groups: every sample right, too easy by now"),
        "skipped/all_fail": Metric("share", "of the sampled groups: every sample wrong, too hard yet"),
        "skipped/tie": Metric("share", "of the sampled groups: all rewards equal in between"),
        "skipped/too_few": Metric("share", "of the sampled groups: fewer than two samples were graded"),
        "solve/visible": Metric("share", "graded samples that pass the visible tests"),
        "solve/hidden": Metric(
            "share", "graded samples that pass the hidden tests too: far below visible, the reward is hacked"
        ),
        "ungraded": Metric("share", "samples whose grader failed; they have no reward and do not vote"),
        "rollouts/logprob_gap_mean": Metric("nats", "mean distance per token of a server's log-probs from the engine's"),
        "rollouts/logprob_gap_max": Metric("nats", "largest of these distances"),
        "rollouts/weight_mean": Metric("", "mean importance weight between the two"),
        "rollouts/weight_truncated": Metric("share", "tokens whose importance weight met its cap"),
        "rollouts/probe_gap": Metric("nats", "the same mean distance for fixed tokens, when the adapter was loaded"),
        "rollouts/told_apart": Metric("share", "of the untrained and the last version, those a server was seen not to serve"),
        "rollouts/shown": Metric(
            "", "slope of the server's change of these log-probs on the engine's, since the untrained model"
        ),
        "agent/turns": Metric("answers", "of the model in one run of an agent, mean"),
        "agent/conversations": Metric("rows", "that one run of an agent became, mean; 1 = every prompt went on with the last"),
        "agent/partial": Metric("share", "of the failing tests that pass after a run, mean"),
        "agent/files_read": Metric("files", "different ones that a run read by tool calls, mean"),
        "agent/commands_run": Metric("commands", "in one run by tool calls, mean"),
        "agent/wall_s": Metric("s", "of one run of an agent, mean"),
        "agent/forfeited": Metric("share", "runs whose reward a finding costs, such as changed tests"),
        "agent/too_long": Metric("rows", "conversations that were too long to be learned from"),
        "heldout/solve": Metric("share", "held-out tasks solved, decoded greedily; only on steps that evaluate"),
        "heldout/n": Metric("tasks", "held-out tasks judged for it"),
        "time/sample_s": Metric("s", "spent sampling"),
        "time/judge_s": Metric("s", "spent judging, beyond what ran beside the sampling"),
        "time/learn_s": Metric("s", "spent on gradients and updates"),
        "memory/peak_mb": Metric("MB", "largest resident set of the process so far; judged programs and a GPU's not counted"),
    }
)
"""Every figure that a report knows how to draw, by name."""
