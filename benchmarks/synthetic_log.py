"""A large made-up log, written straight into SQLite: thousands of programmers, every column that calibration reads.

Each decision has all context features and, where something was generated, all suggestion features, with realistic shares of
missing values. Whether a shown suggestion is kept follows

    logit p = own + 0.9·x + 1.4·(2q − 1),      own ~ N(−0.8, 0.4) per programmer, x ~ N(0, 1) seen before, q ~ U(0, 1) after

(`coderl_gate.synthetic`), so a fit can be checked against the truth. A twelfth of the decisions showed nothing and a few
outcomes are missing, not seen or merely inferred, as in real logs.

Run: python benchmarks/synthetic_log.py OUT.db 1000000
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from coderl_gate.catalogue import CONTEXT_FEATURES, FEATURE_VERSION, SUGGESTION_FEATURES, Feature
from coderl_store.repository import Repository

CHUNK = 20_000
PER_USER = 500
SIGNALS = ("line_trimmed_chars", "logprob_mean")
START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER_KNOWN = ("invoked", "language_shell")

Floats = NDArray[np.float64]
Rows = list[tuple[Any, ...]]


def generate(path: Path, decisions: int, seed: int = 0) -> None:
    """Write a log of `decisions` decisions into a new database at `path`."""
    Repository(f"sqlite:///{path}").close()
    rng = np.random.default_rng(seed)
    users = max(4, decisions // PER_USER)
    own = rng.normal(-0.8, 0.4, users)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        insert(connection, "sessions", list(_sessions(users)))
        for first in range(0, decisions, CHUNK):
            for table, rows in _chunk(rng, own, first, min(CHUNK, decisions - first)).items():
                insert(connection, table, rows)
    connection.close()


def insert(connection: sqlite3.Connection, table: str, rows: Rows, names: tuple[str, ...] = ()) -> None:
    """Rows whose values are in the order of `names` (else of `COLUMNS`); every other column gets what stands for nothing."""
    names = names or COLUMNS[table]
    described = connection.execute(f"PRAGMA table_info({table})").fetchall()
    rest = [(name, kind) for _, name, kind, needed, *_ in described if needed and name not in names]
    blank = ["'[]'" if kind == "JSON" else "0" if kind in ("BIGINT", "DOUBLE") else "''" for _, kind in rest]
    columns = ", ".join(f'"{name}"' for name in (*names, *(name for name, _ in rest)))
    values = ", ".join(["?"] * len(names) + blank)
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({values})", rows)


COLUMNS = {
    "sessions": ("id", "at", "origin", "user_key", "client_name", "generator_id"),
    "contexts": ("id", "at", "session_id", "language", "trigger", "typing_interval_ms", "features", "feature_version"),
    "decisions": (
        "id", "at", "session_id", "context_id", "route", "stage", "action", "reason", "costs", "propensity", "timings",
    ),
    "suggestions": (
        "id", "at", "session_id", "decision_id", "generator_id", "chars", "lines", "tokens", "features", "feature_version",
    ),
    "outcomes": (
        "id", "at", "session_id", "suggestion_id", "decision_id", "kind", "evidence", "visible_ms", "accepted_chars",
    ),
    "survivals": ("id", "at", "session_id", "suggestion_id", "after_s", "share"),
}  # fmt: skip


def _sessions(users: int) -> Iterator[tuple[Any, ...]]:
    for user in range(users):
        yield f"session-{user:06}", text_of(START), "editor", f"{user:032x}", "bench", "synthetic"


def _chunk(rng: np.random.Generator, own: Floats, first: int, count: int) -> dict[str, Rows]:
    """The rows of `count` decisions, by table."""
    user = rng.integers(len(own), size=count)
    x, q = rng.normal(0.0, 1.0, count), rng.random(count)
    lines = np.where(rng.random(count) < 0.8, 1, 3)
    chars = 5 + rng.exponential(30.0, count).astype(int) + 10 * lines
    p = 1.0 / (1.0 + np.exp(-(own[user] + 0.9 * x + 1.4 * (2.0 * q - 1.0))))
    kept = rng.random(count) < p
    shown = rng.random(count) > 1 / 12
    generated = shown | (rng.random(count) < 0.5)
    explored = rng.random(count) < 0.02
    visible_ms = np.minimum(60_000.0, rng.lognormal(7.9, 0.8, count))
    contexts = _documents(rng, CONTEXT_FEATURES, count, {SIGNALS[0]: x})
    suggestions = _documents(rng, SUGGESTION_FEATURES, count, {SIGNALS[1]: q, "s_chars": np.log1p(chars)})
    kinds = np.where(kept, "accepted", np.where(rng.random(count) < 0.6, "dismissed", "disagreed"))
    kinds = np.where(rng.random(count) < 0.02, "not_seen", kinds)
    answered = shown & (rng.random(count) < 0.99)
    rows: dict[str, Rows] = {name: [] for name in COLUMNS if name != "sessions"}
    for i in range(count):
        key, session = f"{first + i:010}", f"session-{user[i]:06}"
        at = text_of(START + timedelta(seconds=20 * (first + i), microseconds=7 * i % 1_000_000))
        done = text_of(START + timedelta(seconds=20 * (first + i) + 1 + float(visible_ms[i]) / 1000))
        rows["contexts"].append(
            (f"c{key}", at, session, "python", "automatic", 150.0 + 10 * (user[i] % 20), contexts[i], FEATURE_VERSION)
        )
        action, propensity = ("show" if shown[i] else "withhold"), (0.1 if explored[i] else 1.0)
        costs = f'{{"t_wait_s":{0.1 * (i % 5)},"t_verify_s":1.0,"t_write_s":{chars[i] / 5},"t_edit_s":0.5}}'
        rows["decisions"].append(
            (f"d{key}", at, session, f"c{key}", "full", "after", action, "worth_showing", costs, propensity, "{}")
        )
        if not generated[i]:
            continue
        sizes = int(chars[i]), int(lines[i]), int(chars[i]) // 4
        rows["suggestions"].append((f"s{key}", at, session, f"d{key}", "synthetic", *sizes, suggestions[i], FEATURE_VERSION))
        if not answered[i]:
            continue
        taken = int(chars[i]) if kinds[i] == "accepted" else 0
        evidence = "inferred" if kinds[i] == "disagreed" else "command"
        rows["outcomes"].append(
            (f"o{key}", done, session, f"s{key}", f"d{key}", str(kinds[i]), evidence, float(visible_ms[i]), taken)
        )
        if taken:
            rows["survivals"] += [(f"v{key}{after}", done, session, f"s{key}", after, 0.9) for after in (30.0, 600.0)]
    return rows


def _documents(rng: np.random.Generator, features: tuple[Feature, ...], count: int, given: dict[str, Floats]) -> list[str]:
    """`count` JSON objects with all features: yes-no features rarely yes, counts skewed, a tenth of the others missing."""
    columns: list[list[float | None]] = []
    for feature in features:
        if feature.name in given:
            columns.append(given[feature.name].tolist())
        elif feature.name in NEVER_KNOWN:
            columns.append([None] * count)
        elif feature.unit == "0 or 1":
            columns.append((rng.random(count) < 0.2).astype(float).tolist())
        elif feature.unit.startswith("ln"):
            columns.append(np.log1p(rng.exponential(40.0, count)).tolist())
        else:
            missing = rng.random(count) < 0.1
            columns.append([None if gone else value for gone, value in zip(missing, rng.random(count).tolist(), strict=True)])
    names = [feature.name for feature in features]
    return [orjson.dumps(dict(zip(names, row, strict=True))).decode() for row in zip(*columns, strict=True)]


def text_of(moment: datetime) -> str:
    """A time as SQLAlchemy stores it in SQLite."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the new SQLite file")
    parser.add_argument("decisions", type=int)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists already: name a new file.")
    generate(options.out, options.decisions)
