"""The trainer's exceptions.

TrainerError
├── DatumError      (ValueError)         a training row is inconsistent (lengths differ, a log-prob above 0 …)
├── GroupError      (ValueError)         a group of rewards cannot be normalised (empty, not finite)
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


class EngineRefused(TrainerError, RuntimeError):
    """The engine refused the request; the same request will be refused again."""


class EngineFailed(TrainerError, ConnectionError):
    """The engine cannot be reached or died."""
