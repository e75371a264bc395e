"""Does a gate that was fitted with one generator stay calibrated with another? Quantisations of one model, really run.

`q4_1` is the embedded model. `q4_0` is the same file rounded once more, to the values of Q4_0: another quantisation of about
the same quality. `3bit` leaves 8 of the 16 levels of each block: a much worse model, of whose suggestions half as many are
kept (the stress test). The simulated programmer (`coderl simulate`) types the same files with each, everything generated is
shown, and the gate is calibrated on the log of `q4_1` alone. The others' rows are then scored with log-prob features as
quantiles

    own        of the generator's own distribution, as the server does
    tendency   the same, with the programmer's tendency learned on the way, as the server does too (`recalibration.walk`)
    raw        of q4_1's distribution: the log-prob itself decides, as without quantile normalisation (the baseline)
    prior      not at all: p1 alone (the server's fallback while the distribution is not known)

Reported per way: ECE, the ECE that a perfect gate has on such rows by chance, the excess of the one over the other, mean p
against the share kept, and the AUC. `fitted` is q4_1's own, out of fold. Promised, for `q4_0` and the two ways of
the server: an excess of at most `LIMIT`.

The programmer is simulated and one: kept means "agrees with what is typed next", and nothing is said of other people.

Run: python benchmarks/bench_transfer.py  (after `coderl models install`; nine minutes and more per model, `make bench` leaves
it out)
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coderl_gate import metrics
from coderl_gate.artifact import default_artifact
from coderl_gate.calibrate import calibrate
from coderl_gate.dataset import Dataset, Floats, Selection, build
from coderl_gate.features import context_features, suggestion_features
from coderl_gate.figures import ece_by_chance, score
from coderl_gate.quantiles import LOGPROB_NAMES, LogprobSummary, QuantileTable
from coderl_gate.recalibration import walk
from coderl_generator.errors import ModelMissing
from coderl_generator.models import EMBEDDED, find_model
from coderl_store.home import default_database_url, home
from coderl_store.records import Origin
from coderl_store.repository import LoggedRequest, Repository

Bytes = NDArray[np.uint8]

LIMIT = 0.06
REQUESTS_PER_FILE, CHARS_PER_FILE = 6, 800
LEVELS = 8
"""Levels of a 3-bit block."""
FILES = (
    "argparse bisect calendar cmd codecs colorsys configparser contextlib copy csv dataclasses difflib dis enum "
    "filecmp fnmatch fractions ftplib functools getopt glob gzip heapq imaplib inspect mailbox netrc optparse "
    "pathlib pdb pickle platform plistlib pprint profile queue quopri random sched shelve shlex shutil smtplib "
    "socket statistics string tarfile tempfile textwrap threading timeit tokenize traceback types uuid warnings "
    "wave weakref zipapp"
)


def _three_bits(blocks: Bytes) -> None:
    """Leave `LEVELS` of the 16 levels of Q4_1 blocks (n, 20): scale f16, minimum f16, 32 nibbles."""
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32) * 15 / (LEVELS - 1)
    blocks[:, :2] = scale.astype(np.float16).view(np.uint8)
    nibbles = (blocks[:, 4:] & 15, blocks[:, 4:] >> 4)
    low, high = (np.rint(part * np.float32((LEVELS - 1) / 15)).astype(np.uint8) for part in nibbles)
    blocks[:, 4:] = low | (high << 4)


def _symmetric(blocks: Bytes) -> None:
    """Round Q4_1 blocks (n, 20) to the values of Q4_0, w = d·(q − 8), and keep them as Q4_1 with the minimum −8·d."""
    from gguf import GGMLQuantizationType, dequantize, quantize

    rounded = quantize(dequantize(blocks, GGMLQuantizationType.Q4_1), GGMLQuantizationType.Q4_0).reshape(-1, 18)
    scale = rounded[:, :2].copy().view(np.float16).astype(np.float32)
    blocks[:, :2] = rounded[:, :2]
    blocks[:, 2:4] = (-8 * scale).astype(np.float16).view(np.uint8)
    blocks[:, 4:] = rounded[:, 2:]


REQUANTISE: Mapping[str, Callable[[Bytes], None]] = MappingProxyType({"q4_0": _symmetric, "3bit": _three_bits})


def requantised(source: Path, target: Path, how: str) -> Path:
    """A copy of a GGUF file with its Q4_1 blocks changed; the rest, and the size, stay."""
    from gguf import GGMLQuantizationType, GGUFReader

    shutil.copyfile(source, target)
    for tensor in GGUFReader(target, "r+").tensors:
        if tensor.tensor_type is GGMLQuantizationType.Q4_1:
            REQUANTISE[how](tensor.data.reshape(-1, 20))
    return target


def simulate(model: Path, folder: Path, files: Sequence[Path], requests: int) -> None:
    """Type the files with a model, asking at most so often per file; the log goes to `folder`. RuntimeError where it fails."""
    options = ["--seed", "1", "--max-requests", str(requests), "--max-chars", str(CHARS_PER_FILE)]
    policy = ["--rule", "always_show", "--epsilon-skip", "0", "--epsilon-withhold", "0", "--privacy", "code", "--json"]
    where = ["--model", str(model), "--home", str(folder)]
    command = [sys.executable, "-m", "coderl_server", "simulate", *map(str, files), *options, *policy, *where]
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"coderl simulate failed: {run.stderr.strip().splitlines()[-1:]}")


def logged(folder: Path) -> list[LoggedRequest]:
    """The requests of a simulated log."""
    repository = Repository(default_database_url(folder))
    try:
        return list(repository.requests(origins=(Origin.SIMULATED,)))
    finally:
        repository.close()


def table_of(requests: Sequence[LoggedRequest]) -> QuantileTable:
    """The distribution of a log's log-probs."""
    suggestions = [request.suggestion for request in requests if request.suggestion is not None]
    summaries = [summary for one in suggestions if (summary := LogprobSummary.of(one.logprobs)) is not None]
    columns = {name: [getattr(summary, name) for summary in summaries] for name in LOGPROB_NAMES}
    return QuantileTable.of(suggestions[0].generator_id, columns)


def rows_of(requests: Sequence[LoggedRequest], table: QuantileTable) -> Dataset:
    """The judged suggestions, their features worked out anew with the log-probs as quantiles in `table`."""
    made = []
    for request in requests:
        context, suggestion = request.context, request.suggestion
        if suggestion is not None:
            after = suggestion_features(context, suggestion.text or "", LogprobSummary.of(suggestion.logprobs), table)
            suggestion = replace(suggestion, features={**suggestion.features, **after})
            context = replace(context, features={**context_features(context), **context.features})
        made.append(replace(request, context=context, suggestion=suggestion))
    return build(made, Selection(frozenset({Origin.SIMULATED})))


def figures_of(p: Floats, data: Dataset) -> dict[str, float | None]:
    """How well p fits the rows."""
    kept, probabilities = data.kept.tolist(), p.tolist()
    ece, by_chance = metrics.ece(kept, probabilities), ece_by_chance(p)
    return {
        "ece": ece,
        "ece_by_chance": by_chance,
        "ece_excess": max(0.0, ece - by_chance),
        "mean_p": float(p.mean()),
        "kept_share": float(data.kept.mean()),
        "auc": metrics.auc(kept, probabilities),
        "brier": metrics.brier(kept, probabilities),
    }


def compared(fitted: Sequence[LoggedRequest], others: Mapping[str, Sequence[LoggedRequest]]) -> dict[str, Any]:
    """Fit on one log, judge the others in every way."""
    table = table_of(fitted)
    data = rows_of(fitted, table)
    fit = calibrate(data, {"source": "bench_transfer"})
    figures: dict[str, Any] = {
        "q4_1": {
            "rows": len(data),
            "model": fit.stage2.kind,
            "median_mean_logprob_nats": table.grids["mean"][50],
            "fitted": figures_of(fit.stage2.p, fit.dataset),
        }
    }
    for name, requests in others.items():
        own_table = table_of(requests)
        judged, raw = rows_of(requests, own_table), rows_of(requests, table)
        p1, p2 = score(fit.artifact, judged)
        figures[name] = {
            "rows": len(judged),
            "median_mean_logprob_nats": own_table.grids["mean"][50],
            "own": figures_of(p2, judged),
            "tendency": figures_of(walk(p1, p2, judged, default_artifact().tendency_prior)[1], judged),
            "raw": figures_of(score(fit.artifact, raw)[1], raw),
            "prior": figures_of(p1, judged),
        }
    return figures


def run(
    quick: bool = False,
    logs: Sequence[Path] = (),
    requests: int = REQUESTS_PER_FILE,
    others: Sequence[str] = tuple(REQUANTISE),
    by_name: bool = False,
) -> dict[str, Any]:
    """Simulate with all models and compare; `logs`: data folders of q4_1 and the others in order, simulated before."""
    if logs:
        first, *rest = (logged(folder) for folder in logs)
        return compared(first, dict(zip(others, rest, strict=True)))
    if quick or not by_name:
        return {"skipped": "nine minutes and more per model: run it by its own name, python benchmarks/bench_transfer.py"}
    try:
        model = find_model(home(), "embedded")
    except ModelMissing as error:
        return {"skipped": str(error)}
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / f"{name}.py" for name in FILES.split() if (library / f"{name}.py").is_file()]
    with tempfile.TemporaryDirectory(prefix="coderl-transfer-") as name:
        folder = Path(name)
        models = {"q4_1": model}
        for how in others:
            models[how] = requantised(model, folder / f"{EMBEDDED.name.removesuffix('-q4_1')}-{how}.gguf", how)
        for part, one in models.items():
            simulate(one, folder / part, files, requests)
        figures = compared(logged(folder / "q4_1"), {how: logged(folder / how) for how in others})
    for way in ("own", "tendency") if "q4_0" in others else ():
        excess = figures["q4_0"][way]["ece_excess"]
        assert excess <= LIMIT, (
            f"The calibration error on q4_0 ({way}) is {excess:.3f} above chance; at most {LIMIT} was promised."
        )
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A gate of one generator judged with others.")
    parser.add_argument(
        "--logs", type=Path, nargs="+", metavar="HOME", default=(), help="data folders that were simulated before"
    )
    parser.add_argument("--other", choices=list(REQUANTISE), action="append", help="this generator only (may be repeated)")
    parser.add_argument("--requests", type=int, default=REQUESTS_PER_FILE, help="suggestions asked for per file")
    options = parser.parse_args()
    print(
        json.dumps(
            run(logs=options.logs, requests=options.requests, others=options.other or tuple(REQUANTISE), by_name=True), indent=2
        )
    )
