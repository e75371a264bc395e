"""*Is it honest?* Whether the gate's probabilities are true, what is certified, and whether it still fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coderl_gate.artifact import GateArtifact
from coderl_gate.metrics import ReliabilityBin
from coderl_store.clock import utc
from coderl_store.daily import Daily

from ...gates import chosen_artifact
from ..parts import TeamParts
from . import charts
from .keeper import HONEST, HONEST_DAYS, honest_figure
from .visit import Scope


@dataclass(frozen=True, slots=True)
class Honest:
    """What the page shows."""

    made_at: datetime | None
    """None: the figures were not made yet."""
    days: int
    users: int
    too_few: bool
    stages: Sequence[Mapping[str, Any]]
    """As `coderl_gate.honesty` has them, each with a `picture`."""
    drifts: Sequence[Mapping[str, Any]]
    hidden: int
    """Windows of too few programmers."""
    gate_id: str
    certificates: Sequence[Mapping[str, Any]]
    notice: str


def load(parts: TeamParts, scope: Scope) -> Honest:
    """Raises `StoreError`. Everybody's figures are those that `keeper` made last; a visitor's own are made now."""
    now = utc(parts.clock.now_s())
    if scope.everybody:
        made_at, figure = Daily(parts.database.repository.engine).figure(HONEST) or (None, None)
    else:
        made_at, figure = now, honest_figure(parts, scope.user_key, now)
    artifact, notice = chosen_artifact(None, parts.home)
    return shown(made_at, figure, scope, artifact, notice)


def shown(
    made_at: datetime | None, figure: Mapping[str, Any] | None, scope: Scope, artifact: GateArtifact, notice: str
) -> Honest:
    """The page of a figure. Pure."""
    certificates = list(artifact.metrics.get("certificates", {}).values())
    if figure is None:
        return Honest(None, HONEST_DAYS, 0, False, (), (), 0, artifact.id, certificates, notice)
    users, agreed = int(figure["users"]), bool(figure["agreed"])
    enough = agreed or not scope.everybody or users >= scope.minimum
    windows = [one for one in figure["drifts"] if agreed or not scope.everybody or one["users"] >= scope.minimum]
    stages = [{**one, "picture": _picture(one)} for one in figure["stages"]] if enough else []
    return Honest(
        made_at=made_at,
        days=HONEST_DAYS,
        users=users,
        too_few=bool(users) and not enough,
        stages=stages,
        drifts=list(reversed(windows)) if enough else (),
        hidden=len(figure["drifts"]) - len(windows),
        gate_id=artifact.id,
        certificates=certificates,
        notice=notice,
    )


def _picture(stage: Mapping[str, Any]) -> str:
    curve = [ReliabilityBin(**one) for one in stage["curve"]]
    return charts.reliability(curve, f"{stage['name']}: kept share against probability, in bins of equal size")
