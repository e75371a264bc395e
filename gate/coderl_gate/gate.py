"""The gate in the running server: two estimates, and which artifact gives them.

The decision itself is `coderl_gate.policy.decide`; this module only supplies p1 and p2. Everything here is standard library and
plain text: no numpy, scikit-learn or LightGBM.

The folder `gate` of the user's data directory:

    gate/artifacts/<id>/   artifacts, never changed once written
    gate/active            names of artifacts, one per line, the active one first, then those it replaced
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from coderl_store.records import Context

from .artifact import GateArtifact, default_artifact, load, save
from .costs import CostParameters
from .errors import ArtifactError
from .features import LogprobSummary, context_features, suggestion_features
from .fitness import kept_after
from .quantiles import OnlineQuantiles
from .tendency import NOBODY, Tendency

Features = dict[str, float | None]

_REMEMBERED = 20
"""How many replaced artifacts `gate/active` remembers."""


class Gate:
    """P(kept) before and after generation, by one artifact, for one running generator.

    `quantiles` is the running generator's distribution of log-probs; `after` adds every suggestion to it *after* it was scored,
    so that the same session replayed gives the same estimates. `tendency` is what is known of this programmer: both estimates
    are moved by it, and `judged` lets it learn. Not safe for use from several threads.
    """

    def __init__(
        self, artifact: GateArtifact, generator_id: str, quantiles: OnlineQuantiles, tendency: Tendency = NOBODY
    ) -> None:
        if quantiles.generator_id != generator_id:
            raise ArtifactError(f"The quantiles of {quantiles.generator_id!r} do not belong to the generator {generator_id!r}.")
        self.artifact = artifact
        self.generator_id = generator_id
        self.quantiles = quantiles
        self.tendency = tendency
        self._anybody: tuple[Features, float] | None = None
        """The context features of the last `before`, and what stage 1 said of them for anybody."""

    def costs(self, user_key: str) -> CostParameters:
        """The cost parameters of a programmer, as fitted: their own where the artifact knows them, else the population's.

        `coderl_gate.pace.OnlinePace.moved` moves them with the typing of the running session.
        """
        return self.artifact.costs_of_user(user_key)

    def before(self, context: Context) -> tuple[float, Features]:
        """p1 = P(kept | context), and the context features it was computed from. Raises GateError."""
        features = context_features(context)
        anybody = self.artifact.stage1.probability(features)
        self._anybody = features, anybody
        return self.tendency.applied(anybody), features

    def after(
        self,
        context: Context,
        before: Mapping[str, float | None],
        text: str,
        logprobs: LogprobSummary | None,
        *,
        anew: bool = True,
    ) -> tuple[float, Features]:
        """p2 = P(kept | context, suggestion) as `fitness.kept_after` has it, and the suggestion features.

        `before` is what `before` returned for the same context. `anew`: the text was generated for this and is complete, so
        its log-probs count in the distribution; not what is still being written, or was generated before. Raises GateError.
        """
        features = suggestion_features(context, text, logprobs, self.quantiles.table())
        known = self._anybody
        anybody = known[1] if known is not None and known[0] is before else self.artifact.stage1.probability(before)
        p2 = kept_after(self.artifact, {**before, **features}, anybody)
        if anew and logprobs is not None:
            self.quantiles.add(logprobs)
        return self.tendency.applied(p2), features

    def judged(self, p2: float, kept: bool) -> None:
        """A suggestion that was decided with `p2` was seen, and kept or not: learn from it."""
        self.tendency = self.tendency.learned(p2, kept, self.artifact.tendency_prior)


def active_artifact(home: Path) -> GateArtifact:
    """The artifact promoted last in this data directory, else the shipped default.

    ArtifactError where the active one cannot be trusted: whether to go on with `default_artifact()` is the caller's to decide,
    and to tell the user; it is not done here silently.
    """
    names = _names(home)
    if not names:
        return default_artifact()
    try:
        return load(_artifacts(home) / names[0])
    except ArtifactError as error:
        raise ArtifactError(
            f"{str(error).removesuffix('.')}; `gate-calibrate --rollback` goes back to the gate before it."
        ) from error


def chain(home: Path) -> list[str]:
    """Ids of the active artifact and of those it replaced; empty where the shipped one is active. Raises ArtifactError."""
    return _names(home)


def promoted_folders(home: Path) -> list[Path]:
    """The folders of all artifacts that were ever promoted here, by id."""
    return sorted(path for path in _artifacts(home).glob("*") if path.is_dir() and not path.name.startswith("."))


def active_file(home: Path) -> Path:
    """The file that names what is active. It is replaced, never written in place."""
    return home / "gate" / "active"


def promote(home: Path, directory: Path) -> GateArtifact:
    """Make the artifact in `directory` the active one. It is checked, copied under its id, then named: each step is atomic."""
    artifact = load(directory)
    target = _artifacts(home) / artifact.id
    if target.exists():
        load(target)  # an earlier copy that was damaged since must not become active
    else:
        save(artifact, target)
    names = _names(home)
    if names[:1] != [artifact.id]:
        _write_names(home, [artifact.id, *names])
    return artifact


def rollback(home: Path) -> GateArtifact:
    """Go back to the artifact that the active one replaced, in the end the shipped default; returns what is active now.

    ArtifactError where nothing was ever promoted, or where the earlier artifact cannot be trusted (then nothing changes).
    """
    names = _names(home)
    if not names:
        raise ArtifactError("The shipped default gate is active; there is nothing to go back to.")
    try:
        earlier = load(_artifacts(home) / names[1]) if len(names) > 1 else default_artifact()
    except ArtifactError as error:
        raise ArtifactError(
            f"{str(error).removesuffix('.')}; delete {home / 'gate' / 'active'} to use the shipped gate."
        ) from error
    _write_names(home, names[1:])
    return earlier


def _artifacts(home: Path) -> Path:
    return home / "gate" / "artifacts"


def _names(home: Path) -> list[str]:
    file = active_file(home)
    try:
        names = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file} cannot be read ({error}): delete it to use the default gate.") from error
    names = [name.strip() for name in names if name.strip()]
    if any("/" in name or "\\" in name or name.startswith(".") for name in names):
        raise ArtifactError(f"{file} does not hold names of artifacts: delete it to use the default gate.")
    return names


def _write_names(home: Path, names: list[str]) -> None:
    file = active_file(home)
    temporary = file.with_name(f".active.{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write("".join(f"{name}\n" for name in names[:_REMEMBERED]))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(f"{file} cannot be written: {error.strerror or error}.") from error
