"""A large made-up log of a team, as a gate leaves it: what the dashboard is looked at and measured with.

A few hundred programmers on their working days, several languages, two generators and two gates, one after the other. Each
decision has p1, p2, thresholds, costs and propensities of the real rule (`coderl_gate.policy`: h = 0.65, a twentieth of each
kind of silence is broken as a trial), no features and no text. What is kept follows the true probability

    logit p = own + 0.9·x + 1.4·(2q − 1),      own ~ N(−0.8, 0.4) per programmer, x ~ N(0, 1), q ~ U(0, 1)

p1 knows x, p2 knows x and q, both know nobody; the second gate is as honest as that, the first one is too hopeful by 0.4.

Run: python benchmarks/team_log.py OUT.db 1000000
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from coderl_gate.costs import CostParameters, costs_of, expected_costs
from coderl_gate.escalation import entropy_bits
from coderl_gate.margins import sigmoid
from coderl_gate.policy import Policy, Request, decide
from coderl_store.records import Costs, Route
from coderl_store.repository import Repository

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.synthetic_log import Rows, insert, text_of

LANGUAGES = ("python", "typescript", "go", "rust", "java", "sql")
SHARES = (0.42, 0.27, 0.13, 0.09, 0.06, 0.03)
GENERATORS = ("smollm2-135m-instruct-q8_0", "smollm2-135m-instruct-q8_0+team@3")
GATES = ("gate-3fe5f5468bec153a7b50", "gate-91c0d1b7a2f84e55aa10")
POLICY = Policy(0.65, epsilon_skip=0.05, epsilon_withhold=0.05)
CHUNK = 20_000
COLUMNS = {
    "sessions": ("id", "at", "origin", "user_key", "client_name", "generator_id", "gate_id"),
    "contexts": ("id", "at", "session_id", "language", "trigger", "features", "feature_version"),
    "decisions": (
        "id", "at", "session_id", "context_id", "route", "stage", "action", "reason", "p1", "entropy_bits",
        "tau_before", "p2", "tau", "expected_costs", "costs", "epsilon_skip", "epsilon_withhold", "propensity",
        "gate_id", "generator_id", "h_bits", "timings",
    ),
    "suggestions": ("id", "at", "session_id", "decision_id", "generator_id", "chars", "lines", "tokens", "features"),
    "outcomes": (
        "id", "at", "session_id", "suggestion_id", "decision_id", "kind", "evidence", "visible_ms", "accepted_chars",
    ),
    "incidents": ("id", "at", "session_id", "severity", "code", "message", "data"),
}  # fmt: skip


def generate(
    path: Path, decisions: int, users: int = 200, days: int = 180, seed: int = 0, until: datetime | None = None
) -> None:
    """Write the log of the `days` before `until` (now) into a new database at `path`."""
    Repository(f"sqlite:///{path}").close()
    until = until or datetime.now(UTC)
    rng = np.random.default_rng(seed)
    own, eager = rng.normal(-0.8, 0.4, users), rng.gamma(3.0, 1.0, users)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        done: set[str] = set()
        for first in range(0, decisions, CHUNK):
            rows = _chunk(rng, own, eager / eager.sum(), (first, min(CHUNK, decisions - first), decisions), days, until, done)
            for table, some in rows.items():
                insert(connection, table, some, COLUMNS[table])
    connection.close()


def _chunk(
    rng: np.random.Generator, own: Any, busy: Any, part: tuple[int, int, int], days: int, until: datetime, sessions: set[str]
) -> dict[str, Rows]:
    """`part`: the first decision, how many, and how many there are in all; those are spread over the days in order."""
    first, count, whole = part
    user = rng.choice(len(own), size=count, p=busy)
    x, q, coins = rng.normal(0.0, 1.0, count), rng.random(count), rng.random((count, 2))
    language = rng.choice(len(LANGUAGES), size=count, p=SHARES)
    lines = np.where(rng.random(count) < 0.8, 1, 3)
    chars = 5 + rng.exponential(30.0, count).astype(int) + 10 * lines
    lucky, odd, clock = rng.random(count), rng.random(count), rng.random(count)
    visible = np.minimum(60_000.0, rng.lognormal(7.4, 0.8, count))
    latency = rng.lognormal(5.4, 0.5, count)
    rows: dict[str, Rows] = {name: [] for name in COLUMNS}
    for i in range(count):
        number = first + i
        start = until - timedelta(days=days * (1 - number / whole))
        day = start.replace(hour=0, minute=0, second=0, microsecond=0)
        at = min(day + timedelta(hours=7 + 10 * float(clock[i]), microseconds=number % 1000), until)
        key, session = f"{number:010}{number * 2_654_435_761 % 4096:03x}", f"s{user[i]:05}-{day:%Y%m%d}"
        late = number > 0.6 * whole
        if session not in sessions:
            sessions.add(session)
            row = (session, text_of(day), "editor", f"{user[i]:032x}", "vscode", GENERATORS[late], GATES[late])
            rows["sessions"].append(row)
            if odd[i] < 0.02:
                rows["incidents"].append(
                    (f"i{key}", text_of(at), session, "error", "generator_failed", "The model ended.", "{}")
                )
        situation = (float(x[i]), float(q[i]), float(own[user[i]]), int(chars[i]), int(lines[i]))
        _write(
            rows, key, at, session, LANGUAGES[language[i]], late, situation, tuple(coins[i]), (lucky[i], visible[i], latency[i])
        )
    return rows


def _write(
    rows: dict[str, Rows], key: str, at: datetime, session: str, language: str, late: bool,
    situation: tuple[float, float, float, int, int], coins: tuple[float, ...], luck: tuple[float, float, float],
) -> None:  # fmt: skip
    """One request, decided by the real rule."""
    x, q, own, chars, lines = situation
    lucky, visible_ms, latency_ms = map(float, luck)
    hope = 0.0 if late else 0.4
    p1, p2 = sigmoid(-0.8 + 0.9 * x + hope), sigmoid(-0.8 + 0.9 * x + 1.4 * (2 * q - 1) + hope)
    parameters = CostParameters()
    expected, costs = expected_costs(parameters), costs_of(chars, lines, parameters, 0.1)
    asked = Request(p1=p1, expected=expected, p2=p2, costs=costs, coin_before=float(coins[0]), coin_after=float(coins[1]))
    verdict = decide(asked, POLICY)
    assert verdict.action is not None
    assert verdict.reason is not None
    generated, full = verdict.route is not Route.SKIP, verdict.route is Route.FULL
    timings = {"gate_before_ms": 0.2, "generate_ms": latency_ms if generated else None, "gate_after_ms": 0.1, "total_ms": None}
    timings["total_ms"] = 0.4 + (latency_ms if generated else 0.0)
    moment = text_of(at)
    rows["contexts"].append((f"c{key}", moment, session, language, "automatic", "{}", 1))
    rows["decisions"].append(
        (
            f"d{key}", moment, session, f"c{key}", verdict.route.value, verdict.stage.value, verdict.action.value,
            verdict.reason.value, p1, entropy_bits(p1), verdict.tau_before, p2 if full else None,
            verdict.tau if generated else None, _plain(expected), _plain(costs) if generated else None,
            POLICY.epsilon_skip, POLICY.epsilon_withhold, verdict.propensity, GATES[late], GENERATORS[late],
            POLICY.h_bits, json.dumps(timings),
        )
    )  # fmt: skip
    if not generated:
        return
    rows["suggestions"].append((f"g{key}", moment, session, f"d{key}", GENERATORS[late], chars, lines, chars // 4, "{}"))
    if verdict.action.value != "show":
        return
    kept = lucky < sigmoid(own + 0.9 * x + 1.4 * (2 * q - 1))
    kind = "accepted" if kept else "not_seen" if lucky > 0.98 else "dismissed" if lucky > 0.7 else "disagreed"
    evidence = "command" if kept else "inferred" if kind == "disagreed" else "notification"
    done = text_of(at + timedelta(milliseconds=visible_ms))
    rows["outcomes"].append(
        (f"o{key}", done, session, f"g{key}", f"d{key}", kind, evidence, visible_ms, chars if kept else 0)
    )  # fmt: skip


def _plain(costs: Costs) -> str:
    return json.dumps({name: getattr(costs, name) for name in ("t_wait_s", "t_verify_s", "t_write_s", "t_edit_s")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the new SQLite file")
    parser.add_argument("decisions", type=int)
    parser.add_argument("--users", type=int, default=200)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists already: name a new file.")
    generate(options.out, options.decisions, options.users)
