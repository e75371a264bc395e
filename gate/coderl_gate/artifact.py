"""A gate artifact: everything the gate needs to decide, as plain text on disk.

A directory of `artifact.json` and, for tree models, LightGBM's own model text. No pickle: loading runs no code of the file.
The id is a hash of the content and the content names the hash of every other file, so a changed or cut-off artifact is refused.
That detects damage and mistakes, not forgery: whoever can write the directory can also write a consistent one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from .catalogue import CONTEXT_NAMES, FEATURE_VERSION, P1, SUGGESTION_NAMES
from .costs import MAX_PERSONAL, CostParameters
from .decision_time import DecisionTime
from .errors import ArtifactError, FeatureVersionError
from .escalation import ValueLimit
from .margins import IDENTITY, Calibration
from .scorer import BlendScorer, LinearScorer, Scorer, TreeScorer
from .tendency import Tendency

SCHEMA_VERSION = 2
FORMAT = "coderl-gate-artifact"
_JSON_NAME = "artifact.json"
_FIT_AGAIN = "fit a new one with `gate-calibrate`"


@dataclass(frozen=True, slots=True)
class StageModel:
    """One stage: a scorer and the calibration that makes its margin a probability."""

    scorer: LinearScorer | TreeScorer | BlendScorer
    calibration: Calibration = IDENTITY

    @property
    def kind(self) -> str:
        """`linear`, `trees` or `blend`."""
        if isinstance(self.scorer, BlendScorer):
            return "blend"
        return "trees" if isinstance(self.scorer, TreeScorer) else "linear"

    @property
    def linear(self) -> LinearScorer | None:
        """The linear model, where there is one."""
        scorer = self.scorer.linear if isinstance(self.scorer, BlendScorer) else self.scorer
        return scorer if isinstance(scorer, LinearScorer) else None

    @property
    def trees(self) -> TreeScorer | None:
        """The trees, where there are any."""
        scorer = self.scorer.trees if isinstance(self.scorer, BlendScorer) else self.scorer
        return scorer if isinstance(scorer, TreeScorer) else None

    @property
    def names(self) -> tuple[str, ...]:
        """The features it reads."""
        return self.scorer.names

    def probability(self, features: Mapping[str, float | None]) -> float:
        """Calibrated P(kept) in [1e-6, 1 − 1e-6]. Raises ArtifactError where a feature's name is absent."""
        scorer: Scorer = self.scorer
        return self.calibration.probability(scorer.score(features))


@dataclass(frozen=True, slots=True)
class GateArtifact:
    """Both stages, the entropy limit and the costs they decide with, and where all that comes from."""

    stage1: StageModel
    """P(kept | context); reads context features only."""
    stage2: StageModel
    """P(kept | context, suggestion); reads context and suggestion features and `p1`."""
    h_bits: float
    costs: CostParameters
    """The population's."""
    data_hash: str
    """Hash of the data it was fitted on."""
    created_at: str
    """ISO 8601, UTC."""
    value_limit: ValueLimit | None = None
    """The other rule of escalation, fitted to the same budget as `h_bits`; used where the settings ask for it."""
    tendency_prior: float = math.inf
    """λ: how little programmers differ from the model (`coderl_gate.tendency`); infinite = not measurably."""
    tendencies: Mapping[str, Tendency] = field(default_factory=dict)
    """User key → what the data said of that programmer."""
    decision_time: DecisionTime | None = None
    """For the yardstick; no decision of the server uses it."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the data comes from, how it was fitted, and `limits`: what the artifact is not good for."""
    personal: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """User key → those cost parameters that differ from `costs`; at most `MAX_PERSONAL` programmers."""
    feature_version: int = FEATURE_VERSION
    schema_version: int = SCHEMA_VERSION
    id: str = ""
    """Hash of all the above; set by `sealed`, `save` and `load`."""

    def __post_init__(self) -> None:
        if not (isinstance(self.h_bits, int | float) and 0 <= self.h_bits <= 1):
            raise ArtifactError(f"h_bits must lie in [0, 1], not {self.h_bits}.")
        if not self.tendency_prior > 0:
            raise ArtifactError(f"tendency_prior must be above 0, not {self.tendency_prior}.")
        if self.feature_version != FEATURE_VERSION:
            raise FeatureVersionError(
                f"The artifact was fitted on version {self.feature_version} of the features and this CodeRL computes version "
                f"{FEATURE_VERSION}: {_FIT_AGAIN}."
            )
        if len(self.personal) > MAX_PERSONAL:
            raise ArtifactError(
                f"The artifact holds the parameters of {len(self.personal)} programmers; at most {MAX_PERSONAL} are allowed."
            )
        for values in self.personal.values():
            self.costs.of(values)
        known1, known2 = set(CONTEXT_NAMES), {*CONTEXT_NAMES, *SUGGESTION_NAMES, P1.name}
        for stage, known in ((self.stage1, known1), (self.stage2, known2)):
            unknown = sorted(set(stage.names) - known)
            if unknown:
                raise ArtifactError(f"The artifact reads features that its stage does not have: {', '.join(unknown)}.")

    def costs_of_user(self, user_key: str) -> CostParameters:
        """The parameters of one programmer; the population's where nothing is known of that one."""
        own = self.personal.get(user_key)
        return self.costs if own is None else self.costs.of(own)


def sealed(artifact: GateArtifact) -> GateArtifact:
    """The artifact with the id that its content gives it."""
    return replace(artifact, id=_content_id(_content(artifact)))


def files_of(artifact: GateArtifact) -> tuple[GateArtifact, dict[str, str]]:
    """The artifact with its id, and the files that it is on disk: name → text. Raises ArtifactError."""
    content = _content(artifact)
    artifact = replace(artifact, id=_content_id(content))
    stages = (("stage1", artifact.stage1), ("stage2", artifact.stage2))
    texts = {f"{name}.lgb.txt": stage.trees.text for name, stage in stages if stage.trees is not None}
    texts[_JSON_NAME] = json.dumps({"id": artifact.id, **content}, indent=1, allow_nan=False) + "\n"
    return artifact, texts


def save(artifact: GateArtifact, directory: Path, *, replace_existing: bool = False) -> GateArtifact:
    """Write the artifact and return it with its id. The directory appears whole or not at all.

    Raises ArtifactError where `directory` exists, unless it is to be replaced (then there is a moment without it), and where
    it cannot be written.
    """
    artifact, texts = files_of(artifact)
    if directory.exists() and not replace_existing:
        raise ArtifactError(f"{directory} exists already; give another directory.")
    temporary = directory.parent / f".{directory.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        for name, text in texts.items():
            _write(temporary / name, text)
        if directory.exists():
            old = temporary.with_name(temporary.name + ".old")
            directory.rename(old)
            temporary.rename(directory)
            shutil.rmtree(old)
        else:
            temporary.rename(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(f"The artifact cannot be written to {directory}: {error.strerror or error}.") from error
    return artifact


def load(directory: Path) -> GateArtifact:
    """Read an artifact; ArtifactError (one sentence) where it is missing, damaged, foreign, newer, or of other features."""
    try:
        text = (directory / _JSON_NAME).read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise ArtifactError(f"There is no gate artifact in {directory}: {error.strerror or error}.") from error
    except ValueError as error:
        raise ArtifactError(f"The gate artifact in {directory} is damaged: it is not JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{directory / _JSON_NAME} is not a gate artifact of CodeRL.")
    schema = content.get("schema_version")
    if not isinstance(schema, int) or schema != SCHEMA_VERSION:
        cure = _FIT_AGAIN if isinstance(schema, int) and schema < SCHEMA_VERSION else "update CodeRL"
        raise ArtifactError(
            f"The gate artifact in {directory} has schema {schema} and this CodeRL reads {SCHEMA_VERSION}: {cure}."
        )
    written_id = content.pop("id", None)
    if _content_id(content) != written_id:
        raise ArtifactError(
            f"The gate artifact in {directory} was changed after it was written: {_FIT_AGAIN} or copy it again."
        )
    try:
        return replace(_from_content(content, directory), id=written_id)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"The gate artifact in {directory} is damaged: {error!r}.") from error


def default_artifact() -> GateArtifact:
    """The artifact shipped with CodeRL; ArtifactError where this installation lacks it."""
    source = resources.files("coderl_gate").joinpath("default")
    if not source.joinpath(_JSON_NAME).is_file():
        raise ArtifactError("This installation has no default gate: reinstall CodeRL, or fit a gate with `gate-calibrate`.")
    with resources.as_file(source) as directory:
        return load(directory)


def _content(artifact: GateArtifact) -> dict[str, Any]:
    """All of the artifact but its id, as JSON gives it back (so that the hash survives the round trip)."""
    content = {
        "format": FORMAT,
        "schema_version": artifact.schema_version,
        "feature_version": artifact.feature_version,
        "created_at": artifact.created_at,
        "data_hash": artifact.data_hash,
        "h_bits": artifact.h_bits,
        "value_limit": None if artifact.value_limit is None else asdict(artifact.value_limit),
        "costs": asdict(artifact.costs),
        "decision_time": None if artifact.decision_time is None else asdict(artifact.decision_time),
        "tendency_prior": None if math.isinf(artifact.tendency_prior) else artifact.tendency_prior,
        "tendencies": {user: tendency.to_json() for user, tendency in artifact.tendencies.items()},
        "personal": _plain(artifact.personal),
        "stage1": _stage_content("stage1", artifact.stage1),
        "stage2": _stage_content("stage2", artifact.stage2),
        "metrics": _plain(artifact.metrics),
        "provenance": _plain(artifact.provenance),
    }
    try:
        again: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"The artifact holds something that JSON cannot: {error}.") from error
    return again


def _plain(value: Any) -> Any:
    """Read-only mappings and tuples as dictionaries and lists; what is not a finite number becomes null (missing)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _stage_content(name: str, stage: StageModel) -> dict[str, Any]:
    content: dict[str, Any] = {"kind": stage.kind, "names": list(stage.names), "calibration": stage.calibration.to_json()}
    if stage.trees is not None:
        content |= {"file": f"{name}.lgb.txt", "sha256": sha256(stage.trees.text.encode()).hexdigest()}
    if stage.linear is not None:
        content["model"] = stage.linear.to_json()
    return content


def _content_id(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "gate-" + sha256(canonical.encode()).hexdigest()[:20]


def _from_content(content: Mapping[str, Any], directory: Path) -> GateArtifact:
    return GateArtifact(
        stage1=_stage("stage1", content["stage1"], directory),
        stage2=_stage("stage2", content["stage2"], directory),
        h_bits=content["h_bits"],
        value_limit=None if content["value_limit"] is None else ValueLimit(**content["value_limit"]),
        costs=CostParameters(**content["costs"]),
        decision_time=None if content["decision_time"] is None else DecisionTime.from_json(content["decision_time"]),
        tendency_prior=math.inf if content["tendency_prior"] is None else float(content["tendency_prior"]),
        tendencies={str(user): Tendency.from_json(data) for user, data in content["tendencies"].items()},
        personal={user: dict(values) for user, values in content["personal"].items()},
        data_hash=content["data_hash"],
        created_at=content["created_at"],
        metrics=content["metrics"],
        provenance=content["provenance"],
        feature_version=content["feature_version"],
        schema_version=content["schema_version"],
    )


def _stage(name: str, content: Mapping[str, Any], directory: Path) -> StageModel:
    calibration = Calibration.from_json(content["calibration"])
    kind = content["kind"]
    if kind == "linear":
        return StageModel(LinearScorer.from_json(content["model"]), calibration)
    if kind not in ("trees", "blend"):
        raise ArtifactError(f"The gate artifact in {directory} holds an unknown kind of model, {kind!r}: update CodeRL.")
    file = directory / f"{name}.lgb.txt"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"The gate artifact in {directory} lacks {file.name}: {_FIT_AGAIN} or copy it again.") from error
    if sha256(data).hexdigest() != content["sha256"]:
        raise ArtifactError(f"{file.name} in {directory} was changed after it was written: {_FIT_AGAIN} or copy it again.")
    trees = TreeScorer.parse(data.decode(), tuple(content["names"]))
    if kind == "blend":
        return StageModel(BlendScorer(LinearScorer.from_json(content["model"]), trees), calibration)
    return StageModel(trees, calibration)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
