"""The trainer's exceptions.

TrainerError
├── DatumError      (ValueError)         a training row is inconsistent (lengths differ, a log-prob above 0 …)
├── GroupError      (ValueError)         a group of rewards cannot be normalised (empty, not finite)
├── RewardError     (ValueError)         a reward is configured in a way that cannot be worked out; the message names the part
├── TaskError       (ValueError)         a task or a file of tasks cannot be used; the message names file and line
├── RunError        (ValueError)         a run's folder cannot be made, read, or gone on with; the message names the file
├── FigureError     (ValueError)         numbers that cannot be summarised or compared (a share above 1, pairs without partners)
├── RecipeError     (ValueError)         what a run is to be made of cannot be; the message names the key
├── FeedbackError   (ValueError)         logged suggestions cannot be learned from; the message says what is missing
│   └── TooFewEffective                  their weights leave too few of them: what is learned would be noise
├── LengthCollapse  (RuntimeError)       acceptance rose because suggestions became short
├── JailMissing     (RuntimeError)       nothing here can run code in isolation, and nobody said that it may run without
├── TooManyUngraded (RuntimeError)       the grader fails too often: the rewards would be noise
├── GitFailed       (RuntimeError)       git is missing or refuses; nothing is known of what an agent left
├── AgentUnusable   (ValueError)         an agent's command cannot be started as it is; the message says what is wrong with it
├── ExportRefused   (ValueError)         an adapter, a model or a base cannot be exported as it is
├── ExportFailed    (RuntimeError)       an export could not be read or written; what was there before is unchanged
├── EngineRefused   (RuntimeError)       the engine says the request is wrong; the same request will be refused again
└── EngineFailed    (ConnectionError)    the engine cannot be reached or died; the run can be resumed from its last state
"""

from __future__ import annotations


class TrainerError(Exception):
    """Root of everything this package raises on purpose."""


class DatumError(TrainerError, ValueError):
    """A training row is inconsistent; the message names the field."""


class GroupError(TrainerError, ValueError):
    """A group of rewards cannot be normalised."""


class RewardError(TrainerError, ValueError):
    """A reward is configured in a way that cannot be worked out, or its linter does not do its work."""


class TaskError(TrainerError, ValueError):
    """A task or a file of tasks cannot be used."""


class RunError(TrainerError, ValueError):
    """A run's folder cannot be made, read, or gone on with."""


class FigureError(TrainerError, ValueError):
    """Numbers that cannot be summarised or compared."""


class RecipeError(TrainerError, ValueError):
    """A recipe cannot be used; the message names the key."""


class FeedbackError(TrainerError, ValueError):
    """Logged suggestions cannot be learned from."""


class TooFewEffective(FeedbackError):
    """The weights of logged suggestions leave too few effective ones."""


class LengthCollapse(TrainerError, RuntimeError):
    """Suggestions became short while more of them are accepted; the message holds the figures."""


class JailMissing(TrainerError, RuntimeError):
    """Code would run without isolation, and nobody said that it may."""


class TooManyUngraded(TrainerError, RuntimeError):
    """More answers than allowed could not be graded."""


class GitFailed(TrainerError, RuntimeError):
    """git is missing or refuses; the message holds what it said."""


class AgentUnusable(TrainerError, ValueError):
    """An agent's command cannot be started as it is; the message says why."""


class EngineRefused(TrainerError, RuntimeError):
    """The engine refused the request; the same request will be refused again."""


class EngineFailed(TrainerError, ConnectionError):
    """The engine cannot be reached or died."""


class ExportRefused(TrainerError, ValueError):
    """An adapter, a model or a base cannot be exported as it is; the message says what is wrong with it."""


class ExportFailed(TrainerError, RuntimeError):
    """The export could not be read or written (a full disk, a missing library); what was there before is unchanged."""
