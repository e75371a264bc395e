from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from tests.postgres import ON_SQLITE

from coderl_store.dialect import open_engine
from coderl_store.errors import DatabaseError, RecordError, SettingsError
from coderl_store.records import RECORD_TYPES, Context, Decision, Origin, Outcome, Session, Suggestion, Survival
from coderl_store.repository import LoggedRequest, Repository
from coderl_store.schema import migrate
from coderl_store.tables import TABLES

REFUSAL = {
    "sqlite": "CREATE TRIGGER t BEFORE INSERT ON survivals WHEN NEW.share > 0.5 BEGIN SELECT RAISE(ABORT, 'too good'); END",
    "postgresql": 'ALTER TABLE survivals ADD CONSTRAINT "too good" CHECK (share <= 0.5)',
}
"""The database takes no high share any more, and says so."""


def test_every_record_type_comes_back_as_it_was(repository: Repository, make) -> None:
    session = make.session()
    request = make.request(session)
    records = (session, *request, make.shadow(request[2]), make.incident())
    assert {type(record) for record in records} == set(RECORD_TYPES)
    assert repository.append(records) == len(records)
    for kind in RECORD_TYPES:
        assert list(repository.stream(kind)) == [record for record in records if isinstance(record, kind)]


def test_generators_are_those_of_sessions_and_of_suggestions(repository: Repository, make) -> None:
    """A session goes on with another generator where one is promoted meanwhile."""
    began = replace(make.session(), generator_id="before")
    context, decision, suggestion, *rest = make.request(began)
    assert isinstance(suggestion, Suggestion)
    other = replace(make.session(Origin.SIMULATED), generator_id="simulated")
    repository.append([began, context, decision, replace(suggestion, generator_id="after"), *rest, other])
    assert repository.generators(origins=[Origin.EDITOR]) == {"before", "after"}
    assert repository.generators(origins=[Origin.EDITOR], until=began.at) == set()


def test_rows_of_another_session_are_none_of_a_requests(repository: Repository, make) -> None:
    """Somebody who knew the ids could send them for a session of their own."""
    session, other = make.session(), make.session(user_key="another")
    context, decision, suggestion, outcome, *survivals = make.request(session)
    foreign = [
        replace(record, id=f"0-{record.id}", at=session.at, session_id=other.id)
        for record in (suggestion, outcome, make.shadow(suggestion), survivals[0])
    ]
    repository.append([session, other, context, decision, *foreign])
    assert [(one.suggestion, one.outcome, one.shadow) for one in repository.requests()] == [(None, None, None)]
    assert [(one.suggestion_id[0], one.outcome_kind[0]) for one in repository.columns()] == [(None, None)]
    shares = {survival.share for survival in survivals}
    repository.append(
        [suggestion, outcome, *survivals, replace(survivals[0], id="0", session_id=other.id, after_s=900.0, share=0.0)]
    )
    found = next(iter(repository.requests()))
    assert (found.suggestion, found.outcome, {one.share for one in found.survival}) == (suggestion, outcome, shares)
    columns = next(iter(repository.columns()))
    assert (columns.suggestion_id[0], columns.survived[0]) == (suggestion.id, survivals[-1].share)


def test_append_is_idempotent_by_id(repository: Repository, make) -> None:
    first, second = make.survival(0.25), make.survival(0.5)
    assert repository.append([first, first]) == 1
    assert repository.append([replace(first, share=0.75), second]) == 1
    assert list(repository.stream(Survival)) == [first, second]
    assert repository.append([]) == 0


def test_a_batch_is_all_or_nothing(repository: Repository, make) -> None:
    with repository.engine.begin() as connection:
        connection.exec_driver_sql(REFUSAL[connection.dialect.name])
    with pytest.raises(RecordError, match=r"refused the content of a row: .*too good"):
        repository.append([make.incident(), make.survival(0.1), make.survival(0.9)])
    assert all(repository.count(kind) == 0 for kind in RECORD_TYPES)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 1000])
def test_streams_are_in_time_order_whatever_the_page(repository: Repository, make, batch: int) -> None:
    """Ties in time, across page borders, are ordered by id and neither doubled nor lost."""
    records = [make.survival() for _ in range(6)]
    records = [replace(record, at=records[index // 3 * 3].at) for index, record in enumerate(records)]
    repository.append(reversed(records))
    assert list(repository.stream(Survival, batch=batch)) == records


def test_streams_are_filtered(repository: Repository, make) -> None:
    mine, other = make.session(), make.session(Origin.SIMULATED)
    requests = [make.request(mine), make.request(other), make.request(mine)]
    repository.append([mine, other, *(record for request in requests for record in request)])
    contexts = [request[0] for request in requests]
    assert list(repository.stream(Context, origins=[Origin.EDITOR])) == [contexts[0], contexts[2]]
    assert list(repository.stream(Context, origins=[])) == []
    assert list(repository.stream(Session, origins=[Origin.SIMULATED])) == [other]
    assert list(repository.stream(Context, session_ids=[other.id])) == [contexts[1]]
    assert list(repository.stream(Session, session_ids=[mine.id])) == [mine]
    assert list(repository.stream(Context, since=contexts[1].at)) == contexts[1:]
    assert list(repository.stream(Context, until=contexts[1].at)) == contexts[:1]
    assert repository.count(Context) == 3
    assert repository.count(Context, [Origin.EDITOR]) == 2
    assert repository.count(Session, [Origin.EDITOR, Origin.SIMULATED]) == 2


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_requests_are_joined(repository: Repository, make, batch: int) -> None:
    session, simulated = make.session(user_key="a"), make.session(Origin.SIMULATED, "b")
    full, skipped, foreign = make.request(session), make.request(session), make.request(simulated)
    context, decision, suggestion, outcome, early, late = full
    shadow = make.shadow(suggestion)
    repository.append([late, early, outcome, suggestion, decision, context, session, simulated, *skipped[:2], *foreign])
    repository.append([shadow])
    expected = [
        LoggedRequest(session, context, decision, suggestion, outcome, (early, late), shadow),
        LoggedRequest(session, skipped[0], skipped[1], None, None, ()),
    ]
    assert list(repository.requests(batch=batch)) == expected
    assert [r.session.id for r in repository.requests(origins=[Origin.SIMULATED], batch=batch)] == [simulated.id]
    assert [r.session.user_key for r in repository.requests(origins=list(Origin), user_key="b", batch=batch)] == ["b"]
    assert list(repository.requests(since=skipped[1].at, batch=batch)) == expected[1:]
    assert list(repository.requests(until=skipped[1].at, batch=batch)) == expected[:1]


def test_a_decision_without_its_context_is_no_request(repository: Repository, make) -> None:
    session = make.session()
    repository.append([session, make.request(session)[1]])
    assert repository.count(Decision) == 1
    assert list(repository.requests()) == []


@ON_SQLITE
def test_pages_are_read_by_index_and_never_sorted(repository: Repository, make) -> None:
    """Constant memory and linear time: SQLite walks (at, id) and sorts nothing, for all filters that calibration uses."""
    session = make.session()
    repository.append([session, *make.request(session), *make.request(session)])
    statements: list[tuple[str, object]] = []
    event.listen(repository.engine, "before_cursor_execute", lambda c, cur, sql, args, *_: statements.append((sql, args)))
    list(repository.requests(since=session.at, user_key="user", batch=1))
    list(repository.stream(Outcome, origins=[Origin.EDITOR], batch=1))
    paged = [(sql, args) for sql, args in statements if "LIMIT" in sql]
    assert len(paged) >= 4
    with repository.engine.connect() as connection:
        for sql, args in paged:
            plan = " | ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", args))
            assert "USING INDEX ix_decisions_at_id" in plan or "USING INDEX ix_outcomes_at_id" in plan, plan
            assert "TEMP B-TREE" not in plan, plan


@ON_SQLITE
def test_erasure_takes_every_byte_of_a_user(repository: Repository, make, tmp_path: Path) -> None:
    mine, other = make.session(user_key="mine"), make.session(user_key="other")
    repository.append([mine, other, *make.request(mine, "canary_mine"), *make.request(other, "canary_other")])
    assert repository.erase("mine") == 7
    content = b"".join(path.read_bytes() for path in tmp_path.glob("coderl.db*"))
    assert b"canary_mine" not in content
    assert mine.id.encode() not in content
    assert b"canary_other" in content


def test_erasure_takes_all_rows_of_a_user_and_none_of_others(repository: Repository, make) -> None:
    mine, other = make.session(user_key="mine"), make.session(user_key="other")
    kept = make.request(other)
    repository.append([mine, other, *make.request(mine), *kept])
    assert repository.erase("mine") == 7
    assert [request.session for request in repository.requests()] == [other]
    assert [record for kind in RECORD_TYPES for record in repository.stream(kind)] == [other, *kept]
    assert repository.erase("nobody") == 0


def test_retention_keeps_sessions_that_still_have_rows(repository: Repository, make) -> None:
    old, long, new = make.session(), make.session(), make.session()
    old_rows, early_rows = make.request(old), make.request(long)
    border = make.session()
    late_rows = make.request(long)
    repository.append([old, long, new, *old_rows, *early_rows, border, *late_rows])
    assert repository.purge_before(border.at) == 2 + len(old_rows) + len(early_rows)
    assert list(repository.stream(Session)) == [long, border]
    assert [request.context for request in repository.requests()] == [late_rows[0]]


@ON_SQLITE
def test_the_database_file_is_private(repository: Repository, tmp_path: Path) -> None:
    assert (tmp_path / "coderl.db").stat().st_mode & 0o077 == 0


@ON_SQLITE
def test_commits_are_synced_before_a_segment_may_go(repository: Repository) -> None:
    with repository.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1


def test_columns_are_the_fields_of_the_dataclass() -> None:
    for kind, table in TABLES.items():
        assert [column.name for column in table.columns] == list(kind.__dataclass_fields__)
        assert [column.name for column in table.primary_key] == ["id"]


@ON_SQLITE
def test_a_locked_database_is_an_error_with_a_sentence(repository: Repository, make, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "coderl.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match=r"is locked by another program\.$"):
            repository.append([make.survival()])
        other.execute("ROLLBACK")
    other.close()
    assert repository.append([make.survival()]) == 1


def test_a_missing_folder_and_a_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be opened: check that its folder exists"):
        Repository(f"sqlite:///{tmp_path}/missing/log.db")
    (tmp_path / "log.db").write_bytes(b"this is a poem, not a database. " * 200)
    with pytest.raises(DatabaseError, match="is not a database"):
        Repository(f"sqlite:///{tmp_path}/log.db")


@ON_SQLITE
def test_a_file_deleted_while_in_use_is_noticed(repository: Repository, make, tmp_path: Path) -> None:
    repository.append([make.survival()])
    (tmp_path / "coderl.db").unlink()
    with pytest.raises(DatabaseError, match="was deleted while in use"):
        repository.append([make.survival()])


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "cannot be understood"),
        ("sqlite://", "would forget"),
        ("oracledb://x/y", "cannot be understood|not in oracle|needs"),
    ],
)
def test_an_unusable_url_is_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        open_engine(url)


def test_a_password_never_reaches_a_message(tmp_path: Path) -> None:
    with pytest.raises((SettingsError, DatabaseError)) as caught:
        migrate(open_engine("postgresql+psycopg://me:hunter2@127.0.0.1:1/log?connect_timeout=1"))
    assert "hunter2" not in str(caught.value)


def test_suggestion_text_with_any_character_is_stored(repository: Repository, make) -> None:
    text = "'\"; DROP TABLE sessions; --\r\n\u2028 😀 \u0301"
    session = make.session()
    suggestion = make.request(session, text)[2]
    repository.append([suggestion])
    assert [record.text for record in repository.stream(Suggestion)] == [text]
