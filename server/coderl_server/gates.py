"""Which gate artifact a command uses: the one it was given, the active one, or the shipped one."""

from __future__ import annotations

from pathlib import Path

from coderl_gate.artifact import GateArtifact, default_artifact, load
from coderl_gate.errors import ArtifactError
from coderl_gate.gate import active_artifact

from .errors import InputError


def given_artifact(folder: Path) -> GateArtifact:
    """The artifact a user named. Raises InputError where it cannot be used: the folder is the user's word."""
    try:
        return load(folder)
    except ArtifactError as error:
        raise InputError(str(error)) from error


def chosen_artifact(given: Path | None, home: Path) -> tuple[GateArtifact, str]:
    """The artifact for a server, and what to tell the programmer about it (empty = nothing).

    A damaged active artifact does not keep the editor from starting: the shipped one decides, and that is said.
    """
    if given is not None:
        return given_artifact(given), ""
    try:
        return active_artifact(home), ""
    except ArtifactError as error:
        return default_artifact(), f"The active gate cannot be used, so the shipped one decides: {error}"
