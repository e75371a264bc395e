"""Does a gate that was fitted with one generator stay calibrated with another? Two quantisations of one model, really run.

A is the embedded model (4 bits, Q4_1). B is the same file with 3 bits: each Q4_1 block keeps its minimum, its 16 levels become
8. B is a visibly worse model whose log-probs are lower. The simulated programmer (`coderl simulate`) types the same files with
both, everything generated is shown, and the gate is calibrated on A's log alone. B's rows are then scored with log-prob
features as quantiles

    own        of B's own distribution, as the server does
    raw        of A's distribution: the log-prob itself decides, as without quantile normalisation (the baseline)
    prior      not at all: p1 alone (the server's fallback while B's distribution is not known)

Reported per way: ECE, the ECE that a perfect gate has on such rows by chance, the excess of the one over the other, mean p
against the share kept, and the AUC. `fitted` is A's own, out of fold. Promised in a full run: ECE of `own` at most `LIMIT`.

The programmer is simulated and one: kept means "agrees with what is typed next", and nothing is said of other people.

Run: python benchmarks/bench_transfer.py --requests 12  (after `coderl models install`; about 20 minutes on two cores)
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coderl_gate import metrics
from coderl_gate.calibrate import calibrate
from coderl_gate.dataset import Dataset, Floats, Selection, build
from coderl_gate.features import context_features, suggestion_features
from coderl_gate.figures import ece_by_chance, score
from coderl_gate.quantiles import LOGPROB_NAMES, LogprobSummary, QuantileTable
from coderl_generator.errors import ModelMissing
from coderl_generator.models import find_model
from coderl_store.home import default_database_url, home
from coderl_store.records import Origin
from coderl_store.repository import LoggedRequest, Repository

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
QUICK_FILES = 6


def requantised(source: Path, target: Path) -> Path:
    """A copy of a GGUF file whose Q4_1 blocks hold `LEVELS` of 16 levels: (scale f16, minimum f16, 32 nibbles) per block."""
    from gguf import GGMLQuantizationType, GGUFReader

    shutil.copyfile(source, target)
    for tensor in GGUFReader(target, "r+").tensors:
        if tensor.tensor_type is not GGMLQuantizationType.Q4_1:
            continue
        blocks = tensor.data.reshape(-1, 20)
        scale = blocks[:, :2].copy().view(np.float16).astype(np.float32) * 15 / (LEVELS - 1)
        blocks[:, :2] = scale.astype(np.float16).view(np.uint8)
        low, high = (
            np.rint(part * np.float32((LEVELS - 1) / 15)).astype(np.uint8) for part in (blocks[:, 4:] & 15, blocks[:, 4:] >> 4)
        )
        blocks[:, 4:] = low | (high << 4)
    return target


def simulate(model: Path, folder: Path, files: Sequence[Path], requests: int) -> subprocess.Popen[str]:
    """Start typing the files with a model, asking at most so often per file; the log goes to `folder`."""
    options = ["--seed", "1", "--max-requests", str(requests), "--max-chars", str(CHARS_PER_FILE)]
    policy = ["--rule", "always_show", "--epsilon-skip", "0", "--epsilon-withhold", "0", "--privacy", "code", "--json"]
    where = ["--model", str(model), "--home", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "coderl_server", "simulate", *map(str, files), *options, *policy, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


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


def compared(a: Sequence[LoggedRequest], b: Sequence[LoggedRequest]) -> dict[str, Any]:
    """Fit on A, judge B three ways; and the other way round."""
    figures: dict[str, Any] = {}
    for name, (ours, theirs) in {"4_to_3_bits": (a, b), "3_to_4_bits": (b, a)}.items():
        own_table, their_table = table_of(ours), table_of(theirs)
        data = rows_of(ours, own_table)
        fit = calibrate(data, {"source": "bench_transfer"})
        judged, raw = rows_of(theirs, their_table), rows_of(theirs, own_table)
        p1, p2 = score(fit.artifact, judged)
        figures[name] = {
            "rows_fitted": len(data),
            "rows_judged": len(judged),
            "model": fit.stage2.kind,
            "fitted": figures_of(fit.stage2.p, data),
            "own": figures_of(p2, judged),
            "raw": figures_of(score(fit.artifact, raw)[1], raw),
            "prior": figures_of(p1, judged),
        }
    means = {name: table_of(part).grids["mean"][50] for name, part in (("4_bits", a), ("3_bits", b))}
    return {"median_mean_logprob_nats": means, **figures}


def run(quick: bool = False, logs: tuple[Path, Path] | None = None, requests: int = REQUESTS_PER_FILE) -> dict[str, Any]:
    """Simulate with both models and compare; `logs`: data folders of both, simulated before."""
    if logs is not None:
        return compared(logged(logs[0]), logged(logs[1]))
    try:
        model = find_model(home(), "embedded")
    except ModelMissing as error:
        return {"skipped": str(error)}
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / f"{name}.py" for name in FILES.split() if (library / f"{name}.py").is_file()]
    files = files[:QUICK_FILES] if quick else files
    with tempfile.TemporaryDirectory(prefix="coderl-transfer-") as name:
        folder = Path(name)
        other = requantised(model, folder / "smollm2-135m-instruct-3bit.gguf")
        running = [simulate(one, folder / part, files, requests) for part, one in (("a", model), ("b", other))]
        for process in running:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(f"coderl simulate failed: {said.strip().splitlines()[-1:]}")
        figures = compared(logged(folder / "a"), logged(folder / "b"))
    if not quick:
        ece = figures["4_to_3_bits"]["own"]["ece"]
        assert ece <= LIMIT, f"The calibration error on the other generator is {ece:.3f}, above {LIMIT}."
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A gate of one generator judged with another.")
    parser.add_argument("--quick", action="store_true", help="few files: finds what is broken")
    parser.add_argument("--logs", type=Path, nargs=2, metavar="HOME", help="data folders that were simulated before")
    parser.add_argument("--requests", type=int, default=REQUESTS_PER_FILE, help="suggestions asked for per file")
    options = parser.parse_args()
    figures = run(options.quick, tuple(options.logs) if options.logs else None, options.requests)
    print(json.dumps(figures, indent=2))
