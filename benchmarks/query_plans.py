"""How a database finds what the server asks it for, when the log is long: fills one, asks as the code asks, shows the plans.

The rows are made inside the database (one statement per table), so that a million takes a minute or two. Each question is asked
with the real code; the statements that it sent are asked again with EXPLAIN. `whole table` names the plans that read all of a
table, which is what must not be among the questions of a page.

    python benchmarks/query_plans.py --decisions 1000000 --database postgresql --out out/plans.txt
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, event, text

sys.path.insert(0, str(Path(__file__).resolve().parent))

from team_server import either

from coderl_store.codec import Kind, field_specs
from coderl_store.daily import Daily
from coderl_store.decided import by_the_hour, read_decided
from coderl_store.dialect import writing
from coderl_store.overviews import failures, held, texts_of
from coderl_store.records import Context, Decision, Outcome, Session, Suggestion
from coderl_store.register import Register
from coderl_store.repository import Repository
from coderl_store.tables import TABLES

START = datetime(2026, 1, 1, tzinfo=UTC)
EVERY_S = 2
"""Between two decisions of the whole team."""
PER_SESSION, USERS = 500, 200
Statement = tuple[str, Any]

# SQL expressions of `i`, the number of a decision (of a session for sessions).
ROWS: dict[type[Any], dict[str, str]] = {
    Session: {"id": "'s' || i", "user_key": f"'user-' || (i % {USERS})", "origin": "'editor'"},
    Context: {"id": "'c' || i", "session_id": f"'s' || (i / {PER_SESSION})", "language": "'python'", "trigger": "'automatic'"},
    Decision: {
        "id": "'d' || i",
        "session_id": f"'s' || (i / {PER_SESSION})",
        "context_id": "'c' || i",
        "route": "CASE i % 3 WHEN 0 THEN 'skip' ELSE 'full' END",
        "stage": "CASE i % 3 WHEN 0 THEN 'before' ELSE 'after' END",
        "action": "CASE i % 6 WHEN 1 THEN 'show' ELSE 'withhold' END",
        "reason": "CASE i % 6 WHEN 1 THEN 'worth_showing' ELSE 'below_threshold' END",
        "propensity": "1.0",
    },
    Suggestion: {"id": "'g' || i", "session_id": f"'s' || (i / {PER_SESSION})", "decision_id": "'d' || i", "chars": "30"},
    Outcome: {
        "id": "'o' || i",
        "session_id": f"'s' || (i / {PER_SESSION})",
        "suggestion_id": "'g' || i",
        "decision_id": "'d' || i",
        "kind": "CASE i % 18 WHEN 1 THEN 'accepted' ELSE 'dismissed' END",
        "evidence": "'command'",
    },
}
LISTS = ("recent_accepts", "token_ids", "logprobs")
WHICH = {Session: f"i < :most / {PER_SESSION} + 1", Suggestion: "i % 3 <> 0", Outcome: "i % 6 = 1"}


def fill(engine: Engine, decisions: int) -> None:
    """Make the rows, then let the database learn how they are spread."""
    postgresql = engine.dialect.name == "postgresql"
    with writing(engine) as connection:
        for kind, given in ROWS.items():
            began_s = time.perf_counter()
            connection.execute(text(_statement(TABLES[kind], kind, given, postgresql)), {"most": decisions})
            sys.stderr.write(f"{TABLES[kind].name}: {time.perf_counter() - began_s:.0f} s\n")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def _statement(table: Table, kind: type[Any], given: dict[str, str], postgresql: bool) -> str:
    step_s = EVERY_S * PER_SESSION if kind is Session else EVERY_S
    at = (
        f"timestamptz '{START.isoformat()}' + i * interval '{step_s} seconds'"
        if postgresql
        else f"strftime('%Y-%m-%d %H:%M:%f000', '{START:%Y-%m-%d}', (i * {step_s}) || ' seconds')"
    )
    blank = {Kind.TEXT: "''", Kind.INTEGER: "0", Kind.REAL: "0.0", Kind.JSON: "CAST('{}' AS json)" if postgresql else "'{}'"}
    values = {
        spec.name: "NULL" if spec.converter.optional else blank.get(spec.converter.kind, "NULL") for spec in field_specs(kind)
    }
    lists = {name: values[name].replace("{}", "[]") for name in LISTS if name in values}
    values |= {"at": at, **lists, **given}
    columns = ", ".join(f'"{name}"' for name in values)
    numbers = (
        "SELECT i FROM generate_series(0, CAST(:most AS integer) - 1) AS i"
        if postgresql
        else "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :most) SELECT i FROM n"
    )
    chosen = ", ".join(values.values())
    return f"INSERT INTO {table.name} ({columns}) SELECT {chosen} FROM ({numbers}) AS numbers WHERE {WHICH.get(kind, 'true')}"


def questions(repository: Repository, decisions: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """What pages and jobs ask for, by the real code."""
    end = START + timedelta(seconds=EVERY_S * decisions)
    day = timedelta(days=1)
    yield "one day's requests, the first 500", lambda: list(islice(repository.requests(since=end - day), 500))
    pages = repository.pages(since=end - day, batch=5000)
    yield "where the pages of a day begin", lambda: repository.pages(since=end - day, batch=5000)
    yield "one page of 5,000 decisions as columns", lambda: repository.page(pages[0])
    yield (
        "a programmer's own decisions, the first 1,000",
        lambda: list(islice(repository.stream(Decision, user_key="user-7", since=end - day), 1000)),
    )
    yield "whose some sessions are", lambda: repository.owners(["s1", "s2", "s3"])
    yield "the programmers and their sessions", lambda: Register(repository.engine).users()
    yield from of_the_dashboard(repository.engine, end)
    yield (
        "what is older than 30 minutes of the log's begin (retention)",
        lambda: repository.purge_before(START + timedelta(minutes=30)),
    )


def of_the_dashboard(engine: Engine, end: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    """What its pages ask, and what the keeper of its sums asks for one day."""
    week, month, daily = end - timedelta(days=7), end - timedelta(days=30), Daily(engine)
    yield "Why silent? the last 51 of a week", lambda: read_decided(engine, since=week, newest=51)
    yield "– of one programmer", lambda: read_decided(engine, since=week, user_key="user-7", newest=51)
    yield (
        "– with one reason, page 20",
        lambda: read_decided(engine, since=week, reasons=["below_threshold"], newest=51, skip=1000),
    )
    yield "– one decision", lambda: read_decided(engine, decision_id="d77")
    yield "– its text", lambda: texts_of(engine, "d77")
    yield "What if? 2,400 of a month", lambda: read_decided(engine, since=month, newest=2400)
    yield "My data", lambda: held(engine, "user-7")
    yield "Health: failures of a week", lambda: failures(engine, week)
    yield "keeper: the days whose sums are old", lambda: daily.stale(end.date() - timedelta(days=3))
    last_day = end - timedelta(days=1)
    yield "keeper: one day, to be summed", lambda: list(by_the_hour(engine, last_day, end))


def plan(connection: Connection, statement: Statement) -> str:
    """How the database would do it."""
    prefix = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    rows = connection.exec_driver_sql(prefix + statement[0], statement[1]).all()
    return "\n".join(str(row[-1]) for row in rows)


def whole_tables(plans: Sequence[str]) -> list[str]:
    """The lines that say that a table is read from end to end (an intermediate result is none)."""
    names = {table.name for table in TABLES.values()}
    lines = [line.strip(" ->") for one in plans for line in one.splitlines()]
    scans = [line for line in lines if line.startswith("Seq Scan") or (line.startswith("SCAN ") and " USING " not in line)]
    return [line for line in scans if names & set(line.split())]


def report(url: str, decisions: int, out: Any) -> None:
    """Fill the database, ask, and write down times and plans."""
    repository = Repository(url)
    fill(repository.engine, decisions)
    sent: list[Statement] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "DELETE")) and not many:
            sent.append((statement, parameters))

    event.listen(repository.engine, "before_cursor_execute", listen)
    for name, ask in questions(repository, decisions):
        sent.clear()
        began_s = time.perf_counter()
        ask()
        milliseconds = 1000 * (time.perf_counter() - began_s)
        asked = list(dict(sent).items()) if all(isinstance(parameters, tuple) for _, parameters in sent) else list(sent)
        with repository.engine.connect() as connection:
            plans = [plan(connection, statement) for statement in asked]
        out.write(f"\n== {name}: {milliseconds:.0f} ms, {len(asked)} statements\n")
        whole = whole_tables(plans)
        out.write(f"   whole table: {'; '.join(whole) or 'none'}\n")
        for one in dict.fromkeys(plans):
            out.write("".join(f"   | {line}\n" for line in one.splitlines()))
        out.flush()
    repository.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--out", type=Path, default=None, help="default: standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, either(options.database, Path(name)) as url:
        if options.out is None:
            report(url, options.decisions, sys.stdout)
        else:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with options.out.open("w", encoding="utf-8") as out:
                report(url, options.decisions, out)


if __name__ == "__main__":
    main()
