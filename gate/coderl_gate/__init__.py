"""The gate: is a suggestion worth the programmer's time?

What is re-exported here is what the language server needs; it is pure standard library. Fitting, importing and replaying live
in modules of their own, which import numpy, scikit-learn and LightGBM.
"""

from .artifact import GateArtifact, StageModel, default_artifact, load, save
from .costs import CostParameters, costs_of, expected_costs, realised_s, utility_s
from .errors import ArtifactError, DataError, GateError, PromotionRefused
from .features import FEATURE_VERSION, LogprobSummary, context_features, suggestion_features
from .gate import Gate, active_artifact, promote, rollback
from .policy import Policy, Request, Rule, Verdict, action_probabilities, decide
from .quantiles import OnlineQuantiles, QuantileTable, reference_table

__all__ = [
    # estimating
    "Gate",
    "LogprobSummary",
    "OnlineQuantiles",
    "QuantileTable",
    "reference_table",
    "FEATURE_VERSION",
    "context_features",
    "suggestion_features",
    # deciding
    "Policy",
    "Request",
    "Rule",
    "Verdict",
    "decide",
    "action_probabilities",
    "CostParameters",
    "costs_of",
    "expected_costs",
    "utility_s",
    "realised_s",
    # artifacts
    "GateArtifact",
    "StageModel",
    "load",
    "save",
    "default_artifact",
    "active_artifact",
    "promote",
    "rollback",
    # errors
    "GateError",
    "ArtifactError",
    "DataError",
    "PromotionRefused",
]
