"""`gate-calibrate --engine dask`: the final trees fitted by LightGBM's own Dask trainer, over the partitions of an export.

What one machine can hold is judged on one machine: programmers are drawn until there are `DRAWN_ROWS` rows, and models,
calibrations, costs and limits are chosen on them as always. Then the trees of both stages are fitted again on *all* rows of all
partitions, each read, filtered and turned into numbers where it is trained on (data-parallel trees; Meng et al., "A
Communication-Efficient Parallel Algorithm for Decision Tree", 2016), and take the place of the trees in the artifact. A linear
model stays as it is: its hundred weights gain nothing from more rows.

Stage 2 reads stage 1's estimate, by the code that the server runs. How far the trees are from those of one machine on the drawn
rows is measured and written into the artifact (`Agreement`).

Needs the extra `scale`. Without a scheduler's address a cluster of processes is started on this machine, on the loopback
interface only.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coderl_store.columns import RequestColumns

from . import partitions
from .artifact import GateArtifact, StageModel, sealed
from .catalogue import CONTEXT_FEATURES, CONTEXT_NAMES, P1, SUGGESTION_FEATURES, SUGGESTION_NAMES
from .dataset import Dataset, Floats, Selection, collect, gather
from .errors import DataError
from .fitting import MODELS
from .scorer import BlendScorer, TreeScorer

DRAWN_ROWS: Final = 40_000
"""Programmers are drawn until so many rows are judged on this machine."""
CONNECT_S: Final = 10.0
"""How long a scheduler may take to answer."""
_SETS_ITSELF: Final = frozenset({"num_threads", "num_iterations", "objective", "verbose"})
"""Parameters of one machine that the Dask trainer sets for each worker."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Distributed trees against those of one machine with the same parameters, fitted and compared on the drawn rows."""

    mean_difference: float
    """Mean |Δp| of the raw probabilities."""
    log_loss: float
    """Nats per row of the distributed trees."""
    log_loss_one_machine: float


@contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A client of the scheduler at this address, or of `workers` processes on this machine, which end with it.

    Raises `DataError` where the extra is missing or the scheduler does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DataError(f"--engine dask needs the extra `scale` ({error}): pip install 'coderl[scale]'.") from error
    if scheduler is None:
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as local,
            Client(local) as client,
        ):
            client.run(_talk_on_stderr)
            yield client
        return
    try:
        asyncio.run(_reach(scheduler))  # a Client that cannot connect stays behind half open, and hinders the next one
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"The Dask scheduler {scheduler} cannot be reached ({str(error) or type(error).__name__}): start `dask scheduler` "
            "there, or leave --scheduler out."
        ) from error
    with client:
        yield client


async def _reach(scheduler: str) -> None:
    """Raises OSError where nobody answers there, ValueError or TypeError where it is no address."""
    from distributed.comm import connect
    from distributed.security import Security

    comm = await connect(scheduler, timeout=CONNECT_S, **Security().get_connection_args("client"))
    await comm.close()


def _talk_on_stderr() -> None:
    """On a worker of our own: what LightGBM prints must not mix with --json, which has the same standard output."""
    os.dup2(2, 1)


def draw(client: Any, export: partitions.Export, selection: Selection, rows: int = DRAWN_ROWS, seed: int = 0) -> Dataset:
    """The rows of programmers drawn until there are `rows`; what was left out is counted over the whole export.

    Raises `DataError` as `dataset.collect` does.
    """
    counted = client.gather(client.map(_counted, export.paths, selection=selection, pure=False))
    sizes: Counter[str] = sum((users for users, _ in counted), Counter())
    names = np.array(sorted(sizes), dtype=np.str_)
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    chosen: set[str] = set()
    total = 0
    for index in order:
        if total >= rows and len(chosen) > 1:
            break
        chosen.add(str(names[index]))
        total += sizes[str(names[index])]
    if not chosen:
        return collect(partitions.read(export.paths), selection)  # says what is wrong with the log
    parts = client.gather(client.map(_rows_of, export.paths, users=frozenset(chosen), pure=False))
    dataset = collect(parts, selection)
    return replace(dataset, skipped=dict(sum((skipped for _, skipped in counted), Counter())))


def refit(
    client: Any, export: partitions.Export, selection: Selection, artifact: GateArtifact, drawn: Dataset
) -> tuple[GateArtifact, Mapping[str, Agreement]]:
    """The artifact with its trees fitted on every row of the export, and per stage how they agree with one machine's on the
    rows `drawn`; a stage without trees is left as it is and absent. Raises `DataError`."""
    models, agreements = {"stage1": artifact.stage1, "stage2": artifact.stage2}, {}
    for stage, model in list(models.items()):
        if model.trees is not None:
            names = model.trees.names
            trees, agreements[stage] = _distributed(client, export, selection, names, models["stage1"], drawn)
            scorer = BlendScorer(model.linear, trees) if model.linear is not None else trees
            models[stage] = StageModel(scorer, model.calibration)
    about = {
        "engine": "dask",
        "partitions": len(export.partitions),
        "rows_exported": export.rows,
        "agreement": {stage: asdict(agreement) for stage, agreement in agreements.items()},
    }
    provenance = {**artifact.provenance, **about}
    made = replace(artifact, stage1=models["stage1"], stage2=models["stage2"], provenance=provenance)
    return sealed(made), MappingProxyType(agreements)


def _distributed(
    client: Any, export: partitions.Export, selection: Selection, names: Sequence[str], stage1: StageModel, dataset: Dataset
) -> tuple[TreeScorer, Agreement]:
    """Trees over the columns `names`, from all partitions."""
    from lightgbm.dask import DaskLGBMClassifier

    x = columns_for(names, dataset.before, dataset.after, stage1)
    by_name = {feature.name: feature for feature in (*CONTEXT_FEATURES, *SUGGESTION_FEATURES, P1)}
    alone = MODELS["trees"]([by_name[name] for name in names]).fit(x, dataset.kept, dataset.weight)
    parameters = {name: value for name, value in alone.booster_.params.items() if name not in _SETS_ITSELF}
    parts = zip(*_arrays(client, export.paths, selection, tuple(names), stage1), strict=True)
    data, kept, weight = (_concatenated(part, width) for part, width in zip(parts, (len(names), 0, 0), strict=True))
    trees = alone.booster_.num_trees()
    model = DaskLGBMClassifier(client=client, n_estimators=trees, tree_learner="data", verbose=-1, **parameters)
    try:
        # LightGBM tells of its ports on standard output, which belongs to --json, and of a parameter that is not given
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.filterwarnings("ignore", message="Parameter n_jobs will be ignored")
            model.fit(data, kept, sample_weight=weight)
    except Exception as error:  # whatever a worker raised comes back as it was: ours as it is, all else as one sentence
        if isinstance(error, DataError):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise DataError(f"The Dask cluster failed to fit the trees ({type(error).__name__}: {first}).") from error
    booster = model.booster_
    ours, theirs = (_sigmoid(np.asarray(one.predict(x, raw_score=True))) for one in (booster, alone.booster_))
    agreement = Agreement(
        float(np.average(np.abs(ours - theirs), weights=dataset.weight)),
        *(_log_loss(p, dataset) for p in (ours, theirs)),
    )
    return TreeScorer.parse(booster.model_to_string(), tuple(names)), agreement


def columns_for(names: Sequence[str], before: Floats, after: Floats, stage1: StageModel) -> Floats:
    """The columns `names` (k, len(names)) of rows; `p1` is what `stage1` gives."""
    places = {name: (before, j) for j, name in enumerate(CONTEXT_NAMES)}
    places |= {name: (after, j) for j, name in enumerate(SUGGESTION_NAMES)}
    made = np.empty((len(before), len(names)), dtype=np.float64)
    for j, name in enumerate(names):
        if name == P1.name:
            rows = (dict(zip(CONTEXT_NAMES, row, strict=True)) for row in before.tolist())
            made[:, j] = [stage1.probability(row) for row in rows]
        else:
            matrix, column = places[name]
            made[:, j] = matrix[:, column]
    return made


def _arrays(
    client: Any, paths: Sequence[Path], selection: Selection, names: tuple[str, ...], stage1: StageModel
) -> Iterator[tuple[Any, Any, Any]]:
    """Features, labels and weights of each partition, spread over the workers, where they stay to be trained on."""
    from dask import delayed

    homes = sorted(client.scheduler_info(n_workers=-1)["workers"])
    for index, path in enumerate(paths):
        home = homes[index % len(homes)]
        made = client.submit(_numbers, path, selection, names, stage1, workers=[home], allow_other_workers=True, pure=False)
        part = delayed(made)
        yield part[0], part[1], part[2]


def _concatenated(parts: Sequence[Any], width: int) -> Any:
    """One Dask array of delayed parts whose lengths are not known yet; `width` 0 means a vector."""
    from dask import array

    shape = (math.nan, width) if width else (math.nan,)
    return array.concatenate([array.from_delayed(part, shape, np.float64) for part in parts], allow_unknown_chunksizes=True)


def _counted(path: Path, selection: Selection) -> tuple[Counter[str], Counter[str]]:
    """On a worker: rows that may enter per user, and how many were left out for which reason."""
    found = gather(partitions.read([path]), selection)
    if not found.numbers.rows:
        return Counter(), found.skipped
    counts = np.bincount(found.numbers.column("user"), minlength=len(found.users)).tolist()
    return Counter(dict(zip(found.users, counts, strict=True))), found.skipped


def _rows_of(path: Path, users: frozenset[str]) -> RequestColumns:
    """On a worker: the requests of these users."""
    rows: dict[str, list[Any]] = {item.name: [] for item in fields(RequestColumns)}
    for columns in partitions.read([path]):
        mine = [index for index, user in enumerate(columns.user_key) if user in users]
        for name, values in rows.items():
            column = getattr(columns, name)
            values.append(column[mine] if isinstance(column, np.ndarray) else [column[index] for index in mine])
    return RequestColumns(**{name: _joined(values) for name, values in rows.items()})


def _joined(batches: list[Any]) -> Any:
    if batches and isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    return [value for batch in batches for value in batch]


def _numbers(path: Path, selection: Selection, names: tuple[str, ...], stage1: StageModel) -> tuple[Floats, Floats, Floats]:
    """On a worker: features (k, len(names)), labels (k,) and weights (k,) of one partition."""
    gathered = gather(partitions.read([path]), selection).numbers
    if not gathered.rows:
        return np.empty((0, len(names))), np.empty(0), np.empty(0)
    x = columns_for(names, gathered.column("before"), gathered.column("after"), stage1)
    return x, gathered.column("kept"), gathered.column("weight")


def _sigmoid(margin: NDArray[Any]) -> Floats:
    answer: Floats = 1.0 / (1.0 + np.exp(-margin))
    return answer


def _log_loss(p: Floats, dataset: Dataset) -> float:
    return float(np.average(-np.log(np.where(dataset.kept > 0, p, 1.0 - p)), weights=dataset.weight))
