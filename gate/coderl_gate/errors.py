"""The gate's exceptions.

GateError
├── ArtifactError     (ValueError)   a gate artifact is damaged, foreign or from another version: the message is one sentence
│   └── FeatureVersionError      it was fitted on other features than this CodeRL computes
├── DataError         (ValueError)   the log or data set cannot be learned from (empty, one class, one user …)
└── PromotionRefused  (ValueError)   the new artifact is worse than the active one on held-out users
"""

from __future__ import annotations


class GateError(Exception):
    """Root of everything this package raises on purpose."""


class ArtifactError(GateError, ValueError):
    """A gate artifact cannot be trusted; the message says why and what to do."""


class FeatureVersionError(ArtifactError):
    """The artifact is sound but of another feature version; the message says what to do."""


class DataError(GateError, ValueError):
    """The data given cannot be learned from; the message says what is missing."""


class PromotionRefused(GateError, ValueError):
    """The new artifact does worse than the active one on held-out users, so the active one stays."""
