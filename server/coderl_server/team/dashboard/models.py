"""*Models*: versions of gate and generator side by side, what they did here, and the way forward and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_gate import gate as gates
from coderl_gate.artifact import GateArtifact, default_artifact, load
from coderl_gate.errors import ArtifactError
from coderl_generator.models import EMBEDDED
from coderl_generator.promotion import active, promoted
from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.day_sums import DaySums
from coderl_store.home import StoreSettings
from coderl_store.versions import GeneratorVersion

from ... import promoting
from ..parts import TeamParts
from ..people import audit_row
from ..problems import Problem
from ..rights import Caller
from .groups import shown_groups
from .periods import Period, period
from .visit import Scope

MOST = 12
"""Versions of a kind that are shown: the active one, then the latest."""
DAYS = 90
"""Of what they did here."""


@dataclass(frozen=True, slots=True)
class Version:
    """One gate or generator."""

    id: str
    active: bool
    made: str
    """When, or from what."""
    metrics: Mapping[str, Any]
    """Of a gate: `GateArtifact.metrics`."""
    problem: str
    """Why it cannot be used; empty where it can."""
    sums: DaySums | None
    """What it did here in `DAYS`; None where that may not be shown, or is nothing."""
    known: bool = True
    """It can be promoted from here."""


@dataclass(frozen=True, slots=True)
class Models:
    """What the page shows."""

    gates: Sequence[Version]
    generators: Sequence[Version]
    history: Sequence[GeneratorVersion]
    gate_back: bool
    """There is something to go back to."""
    generator_back: bool


def models(parts: TeamParts, scope: Scope) -> Models:
    """Raises `StoreError`, `GateError`, `GeneratorError`."""
    repository = parts.database.repository
    daily, agreed = Daily(repository.engine), parts.database.register.agreed()
    found = period(daily, scope, utc(parts.clock.now_s()).date(), DAYS)
    by_gate, by_generator = (_visible(found, name, scope, agreed) for name in ("gate_id", "generator_id"))
    one = active(parts.home)
    return Models(
        gates=_gates(parts.home, by_gate),
        generators=_generators(parts.home, by_generator),
        history=list(reversed(repository.versions()))[:20],
        gate_back=bool(gates.chain(parts.home)),
        generator_back=one is not None,
    )


def change(parts: TeamParts, caller: Caller, what: str, action: str, name: str) -> None:
    """Promote or roll back, and say so in the audit. `name` is the id to promote, or the one that the page showed as active:
    who rolls back what is not active any more has seen an old page. Raises `Problem`, `GateError`, `GeneratorError`."""
    home = parts.home
    if action == "back" and name != _active_id(home, what):
        raise Problem(409, "changed", "Another version became active meanwhile: look at the page again.")
    if what == "gate":
        if action == "promote":
            folder = next((path for path in gates.promoted_folders(home) if path.name == name), None)
            if folder is None:
                raise Problem(404, "not_found", "There is no such gate here.")
            now = gates.promote(home, folder).id
        else:
            now = gates.rollback(home).id
    else:
        settings = StoreSettings(home=home, database_url=parts.database.url, privacy=parts.privacy)
        done = promoting.promote_again(settings, name) if action == "promote" else promoting.roll_back(settings)
        now = done.active
    verb = "promoted" if action == "promote" else "rolled_back"
    parts.database.register.add_audit(audit_row(parts, caller, f"{what}.{verb}", now))


def _active_id(home: Path, what: str) -> str:
    if what == "gate":
        return next(iter(gates.chain(home)), default_artifact().id)
    one = active(home)
    return EMBEDDED.name if one is None else one.id


def _gates(home: Path, did: Mapping[str, DaySums]) -> list[Version]:
    in_use = _active_id(home, "gate")
    folders = sorted(gates.promoted_folders(home), key=lambda path: (path.name == in_use, path.stat().st_mtime), reverse=True)
    found = []
    for folder in folders[:MOST]:
        try:
            found.append(_gate(load(folder), in_use, did))
        except ArtifactError as error:
            found.append(Version(folder.name, folder.name == in_use, "", {}, str(error), did.get(folder.name)))
    shipped = default_artifact()
    if shipped.id not in {one.id for one in found}:
        found.append(_gate(shipped, in_use, did, known=False))
    return [*sorted(found, key=lambda one: not one.active), *_only_logged(did, found)]


def _gate(artifact: GateArtifact, in_use: str, did: Mapping[str, DaySums], *, known: bool = True) -> Version:
    made = artifact.created_at[:10]
    return Version(artifact.id, artifact.id == in_use, made, artifact.metrics, "", did.get(artifact.id), known)


def _generators(home: Path, did: Mapping[str, DaySums]) -> list[Version]:
    in_use = _active_id(home, "generator")
    found = [
        Version(one.id, one.id == in_use, one.base, {}, "" if one.works else "Its file is gone.", did.get(one.id))
        for one in promoted(home)
    ]
    embedded = Version(EMBEDDED.name, in_use == EMBEDDED.name, "embedded", {}, "", did.get(EMBEDDED.name), known=False)
    found = sorted([*found, embedded], key=lambda one: not one.active)[:MOST]
    return [*found, *_only_logged(did, found)]


def _only_logged(did: Mapping[str, DaySums], found: Sequence[Version]) -> list[Version]:
    """What acted here and is not on this machine: of editors that were never given another."""
    named = {one.id for one in found}
    others = sorted(((name, sums) for name, sums in did.items() if name not in named), key=lambda item: -item[1].requests)
    return [Version(name, False, "only in the log", {}, "", sums, known=False) for name, sums in others[:MOST]]


def _visible(found: Period, name: str, scope: Scope, agreed: Collection[str]) -> dict[str, DaySums]:
    sums = found.sums[name]
    shown = shown_groups(found.members[name], agreed, scope.minimum) if scope.everybody else set(sums)
    return {key: one for key, one in sums.items() if key in shown}
