"""Which gate artifact a command uses: the one it was given, the active one, or the shipped one (the prior)."""

from __future__ import annotations

from pathlib import Path

from coderl_gate.artifact import GateArtifact, default_artifact, load
from coderl_gate.errors import ArtifactError, FeatureVersionError
from coderl_gate.fitness import GENERATORS, Fit, fit_of
from coderl_gate.gate import active_artifact
from coderl_gate.quantiles import MIN_VALUES, reference_table

from .errors import InputError


def given_artifact(folder: Path) -> GateArtifact:
    """The artifact a user named. Raises InputError where it cannot be used: the folder is the user's word."""
    try:
        return load(folder)
    except ArtifactError as error:
        raise InputError(str(error)) from error


def chosen_artifact(
    given: Path | None, home: Path, generator_id: str = "", team: Path | None = None
) -> tuple[GateArtifact, str]:
    """The artifact for a server, and what to tell the programmer about it (empty = nothing).

    `team` is the gate that a team's server sent; it stands in place of the active one of this machine.

    An artifact that does not fit does not keep the editor from starting: the shipped one decides, and that is said. So it is
    for a damaged active artifact, for one of another feature version, and for an active one that was fitted on other generators
    only. A named one that is damaged or missing is an InputError; a named one for other generators is used, and that is said.
    """
    which = "active gate" if given is None else f"gate in {given}"
    which = "team's gate" if given is None and team is not None else which
    try:
        folder = given or team
        artifact = active_artifact(home) if folder is None else load(folder)
    except FeatureVersionError as error:
        return default_artifact(), f"The {which} cannot be used, so the shipped one decides: {error}"
    except ArtifactError as error:
        if given is not None:
            raise InputError(str(error)) from error
        return default_artifact(), f"The {which} cannot be used, so the shipped one decides: {error}"
    if not generator_id or generator_fit(artifact, generator_id) is not Fit.FOREIGN:
        return artifact, ""
    others = ", ".join(artifact.provenance[GENERATORS])
    sentence = f"was fitted on {others}, and the log-probs of {generator_id} cannot be compared with those"
    cure = "run `gate-calibrate` once some days were logged with it."
    if given is None:
        return default_artifact(), f"The {which} {sentence}, so the shipped one decides: {cure}"
    return artifact, f"The {which} {sentence}: {cure}"


def generator_fit(artifact: GateArtifact, generator_id: str) -> Fit:
    """How the artifact stands to a generator. Raises ArtifactError where the shipped reference quantiles are damaged."""
    return fit_of(artifact, generator_id, reference_table(generator_id) is not None)


def fit_sentence(artifact: GateArtifact, generator_id: str) -> str:
    """How the artifact stands to a generator, in words."""
    known = f"are not known yet: until {MIN_VALUES} suggestions were generated, the place decides alone"
    return {
        Fit.OWN: f"It was fitted on suggestions of {generator_id}.",
        Fit.COMPARABLE: f"It was fitted on other generators; the log-probs of {generator_id} are made comparable.",
        Fit.LEARNING: f"The log-probs of {generator_id} {known}.",
        Fit.FOREIGN: f"It was fitted on other generators, and the log-probs of {generator_id} cannot be compared with theirs.",
    }[generator_fit(artifact, generator_id)]
