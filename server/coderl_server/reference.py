"""Reference quantiles of a generator, measured on a simulated log: `coderl models reference`.

The shipped tables were made so, on files of Python's standard library (docs/gate.md says which):

    coderl simulate FILE… --rule always_show --home DIR
    coderl models reference --home DIR --out gate/coderl_gate/reference
"""

from __future__ import annotations

import json
from pathlib import Path

from coderl_gate.errors import DataError
from coderl_gate.quantiles import LOGPROB_NAMES, LogprobSummary, QuantileTable
from coderl_store.records import Origin, Suggestion
from coderl_store.repository import Repository


def measure(database_url: str) -> list[QuantileTable]:
    """One table per generator of the simulated sessions in a log. Raises DataError where there are too few suggestions."""
    summaries: dict[str, list[LogprobSummary]] = {}
    repository = Repository(database_url)
    try:
        for suggestion in repository.stream(Suggestion, origins=(Origin.SIMULATED,)):
            assert isinstance(suggestion, Suggestion)
            if not suggestion.rank and (summary := LogprobSummary.of(suggestion.logprobs)) is not None:
                summaries.setdefault(suggestion.generator_id, []).append(summary)
    finally:
        repository.close()
    if not summaries:
        raise DataError("The log holds no simulated suggestions: run `coderl simulate FILE… --rule always_show` first.")
    return [
        QuantileTable.of(generator_id, {name: [getattr(one, name) for one in seen] for name in LOGPROB_NAMES})
        for generator_id, seen in sorted(summaries.items())
    ]


def write(tables: list[QuantileTable], folder: Path) -> list[Path]:
    """Write each table as `<generator id>.json`, rounded to 6 digits."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in tables:
        data = table.to_json()
        data["grids"] = {name: [round(value, 6) for value in grid] for name, grid in data["grids"].items()}
        path = folder / f"{table.generator_id}.json"
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
