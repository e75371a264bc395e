"""The joined log as columns says what `Repository.requests` says."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event
from tests.postgres import ON_SQLITE

from coderl_store.columns import RequestColumns
from coderl_store.records import Origin, Outcome, Survival
from coderl_store.repository import LoggedRequest, Repository


def row_of(request: LoggedRequest) -> dict[str, object]:
    """What the columns hold of a request, by the record types' own fields."""
    suggestion, outcome = request.suggestion, request.outcome
    return {
        "decision_id": request.decision.id,
        "decided_at": request.decision.at,
        "session_id": request.session.id,
        "user_key": request.session.user_key,
        "origin": request.session.origin,
        "action": request.decision.action,
        "propensity": request.decision.propensity,
        "wait_s": None if request.decision.costs is None else request.decision.costs.t_wait_s,
        "context_features": dict(request.context.features),
        "context_version": request.context.feature_version,
        "typing_interval_ms": request.context.typing_interval_ms,
        "suggestion_id": suggestion and suggestion.id,
        "chars": suggestion and suggestion.chars,
        "lines": suggestion and suggestion.lines,
        "suggestion_features": None if suggestion is None else dict(suggestion.features),
        "suggestion_version": suggestion and suggestion.feature_version,
        "outcome_at": outcome and outcome.at,
        "outcome_kind": outcome and outcome.kind,
        "evidence": outcome and outcome.evidence,
        "visible_ms": outcome and outcome.visible_ms,
        "reading_ms": outcome and outcome.reading_ms,
        "accepted_chars": outcome and outcome.accepted_chars,
        "survived": request.survival[-1].share if request.survival else None,
    }


def rows_of(batches: Iterable[RequestColumns]) -> list[dict[str, object]]:
    rows = []
    for columns in batches:
        for index in range(len(columns)):
            row = {name: getattr(columns, name)[index] for name in RequestColumns.__slots__}
            costs = row.pop("costs")
            row["wait_s"] = None if costs is None else json.loads(costs)["t_wait_s"]
            for name in ("context_features", "suggestion_features"):
                row[name] = None if row[name] is None else json.loads(row[name])
            rows.append(row)
    return rows


def fill(repository: Repository, make) -> None:  # type: ignore[no-untyped-def]
    """Sessions of two origins; requests that were skipped, answered twice, looked at often, lost a context, share a time."""
    editor, simulated = make.session(user_key="a"), make.session(Origin.SIMULATED, "b")
    full, skipped, foreign, twice = (make.request(session) for session in (editor, editor, simulated, editor))
    orphan = make.request(editor)
    outcome = next(record for record in twice if isinstance(record, Outcome))
    second = replace(outcome, id="0-before", at=outcome.at + timedelta(seconds=1), visible_ms=1.0, reading_ms=7.5)
    survival = next(record for record in full if isinstance(record, Survival))
    repository.append([editor, simulated, *full, *skipped[:2], *foreign, *twice, second, *orphan[1:]])
    repository.append([replace(survival, id="z", after_s=survival.after_s / 2, share=0.01)])
    same_time = make.request(editor)
    moved = [replace(record, at=full[1].at) if index < 2 else record for index, record in enumerate(same_time)]
    repository.append(moved)


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_columns_say_what_requests_say(repository: Repository, make, batch: int) -> None:  # type: ignore[no-untyped-def]
    fill(repository, make)
    for origins in ((Origin.EDITOR,), (Origin.SIMULATED,), tuple(Origin)):
        wanted = [row_of(request) for request in repository.requests(origins=origins)]
        assert wanted
        assert rows_of(repository.columns(origins=origins, batch=batch)) == wanted


def test_a_period(repository: Repository, make) -> None:  # type: ignore[no-untyped-def]
    fill(repository, make)
    middle = list(repository.requests())[2].decision.at
    for period in ({"since": middle}, {"until": middle}):
        assert rows_of(repository.columns(**period)) == [row_of(request) for request in repository.requests(**period)]


def test_an_empty_log_is_an_empty_batch(repository: Repository) -> None:
    assert [len(columns) for columns in repository.columns()] == [0]


@ON_SQLITE
def test_one_query_per_page_walks_the_index(repository: Repository, make) -> None:  # type: ignore[no-untyped-def]
    """Linear cost: the page of decisions comes off the index, all else is looked up by key, and nothing is sorted whole."""
    fill(repository, make)
    statements: list[tuple[str, object]] = []
    event.listen(repository.engine, "before_cursor_execute", lambda c, cur, sql, args, *_: statements.append((sql, args)))
    pages = len(list(repository.columns(batch=2)))
    statements = [statement for statement in statements if statement[0] != "BEGIN"]
    assert [("row_number" in sql, "page" in sql) for sql, _ in statements] == [(True, False)] + [(False, True)] * pages
    with repository.engine.connect() as connection:
        for sql, args in statements[:1] + statements[2:-1]:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", args)]
            assert any(re.search(r"decisions USING (COVERING )?INDEX ix_decisions_at_id", step) for step in plan), plan
            scans = [step for step in plan if step.startswith("SCAN") and "ix_decisions_at_id" not in step]
            assert all(re.search("SCAN (page|anon|\\(subquery)", step) for step in scans), plan


def test_pages_can_be_read_in_any_order(repository: Repository, make) -> None:  # type: ignore[no-untyped-def]
    fill(repository, make)
    pages = repository.pages(batch=2)
    assert len(pages) > 2
    backwards = [repository.page(pickle.loads(pickle.dumps(page))) for page in reversed(pages)]
    assert rows_of(reversed(backwards)) == rows_of(repository.columns())


def test_what_arrives_meanwhile_is_in_the_last_page(repository: Repository, make) -> None:  # type: ignore[no-untyped-def]
    fill(repository, make)
    pages = repository.pages(batch=3)
    session = make.session()
    late = make.request(session)
    repository.append([session, *late])
    assert list(repository.page(pages[-1]).decision_id)[-1] == late[1].id
