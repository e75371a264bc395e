"""Sums per day on both databases: which days are stale, what is added up, and what erasure takes with it."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

from coderl_store.clock import VirtualClock
from coderl_store.daily import Daily, DayState, bounds
from coderl_store.day_sums import NUMBERS, DaySums, Part, total
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Route,
    Session,
    Stage,
    Trigger,
)
from coderl_store.repository import Repository

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDS = IdSource(VirtualClock())


def a_request(at: datetime, session: Session, *, answered: bool = True) -> list[Context | Decision | Outcome]:
    context = Context(IDS.new(), at, session.id, "python", "key", 0, 0, Trigger.AUTOMATIC)
    decision = Decision(
        IDS.new(), at, session.id, context.id, Route.FULL, Stage.AFTER, Action.SHOW, Reason.WORTH_SHOWING, 0.4, 0.9, 0.3, 0.5,
        0.3, None, None, 0.0, 0.0, 0.5, 0.5, 1.0, "gate", "generator",
    )  # fmt: skip
    outcome = Outcome(IDS.new(), at, session.id, IDS.new(), decision.id, OutcomeKind.DISMISSED, Evidence.COMMAND)
    return [context, decision, outcome] if answered else [context, decision]


def a_session(user_key: str) -> Session:
    return Session(IDS.new(), DAY, Origin.EDITOR, user_key)


def test_an_empty_log_has_no_stale_days(repository: Repository) -> None:
    assert Daily(repository.engine).stale() == []
    assert Daily(repository.engine).sums(()) == {}


def test_days_are_stale_until_they_are_summed_and_again_when_records_come(repository: Repository) -> None:
    daily, session = Daily(repository.engine), a_session("u")
    repository.append([session, *a_request(DAY, session), *a_request(DAY + timedelta(days=2), session, answered=False)])
    expected = [DayState("2026-03-03", 1, 0), DayState("2026-03-02", 0, 0), DayState("2026-03-01", 1, 1)]
    assert [state for state in daily.stale() if state.decisions] == [expected[0], expected[2]]
    for state in daily.stale():
        assert not daily.summed(state)
        daily.put(state, {})
        assert daily.summed(state) == bool(state.decisions)
    assert daily.stale() == []
    repository.append(a_request(DAY, session, answered=False))
    assert [state.day for state in daily.stale()] == ["2026-03-01"]
    assert daily.stale(since=date(2026, 3, 2)) == []


def test_what_is_gone_from_the_log_is_stale_and_goes(repository: Repository) -> None:
    daily, session = Daily(repository.engine), a_session("u")
    repository.append([session, *a_request(DAY, session)])
    (state,) = daily.stale()
    daily.put(state, {Part("2026-03-01", "u", "python", "g", "a"): DaySums(requests=1)})
    repository.purge_before(DAY + timedelta(days=1))
    (gone,) = daily.stale()
    assert gone == DayState("2026-03-01", 0, 0)
    daily.put(gone, {})
    assert daily.stale() == []
    assert daily.sums(("day",)) == {}


def test_sums_are_added_up_by_what_is_asked(repository: Repository) -> None:
    daily = Daily(repository.engine)
    one = {name: kind(index + 1) for index, (name, kind) in enumerate(NUMBERS.items())}
    parts = {
        Part("2026-03-01", "u", "python", "g1", "a"): DaySums(**one, reasons={"cooldown": 2}),
        Part("2026-03-01", "v", "python", "g1", "a"): DaySums(**one, reasons={"cooldown": 1, "empty": 4}),
        Part("2026-03-01", "v", "go", "g2", "a"): DaySums(**one),
    }
    daily.put(DayState("2026-03-01", 3, 3), parts)
    daily.put(DayState("2026-03-02", 1, 1), {Part("2026-03-02", "u", "go", "g2", "b"): DaySums(requests=7)})
    by_language = daily.sums(("language",), until=date(2026, 3, 2), reasons=True)
    assert by_language["python",] == total(list(parts.values())[:2])
    assert by_language["go",] == DaySums(**one)
    assert daily.sums((), generators=["g2"], languages=["go"])[()].requests == 1 + 7
    assert daily.sums((), user_key="u")[()].requests == 1 + 7
    assert daily.sums(("day", "user_key"), since=date(2026, 3, 2)) == {("2026-03-02", "u"): DaySums(requests=7)}
    assert daily.members("language") == {"python": {"u", "v"}, "go": {"u", "v"}}
    assert daily.members("language", until=date(2026, 3, 2), generators=["g2"]) == {"go": {"v"}}


def test_erasing_a_programmer_erases_the_sums_of_their_rows(repository: Repository) -> None:
    daily, session = Daily(repository.engine), a_session("u")
    repository.append([session, *a_request(DAY, session)])
    parts = {Part("2026-03-01", user, "python", "g", "a"): DaySums(requests=1) for user in ("u", "v")}
    daily.put(DayState("2026-03-01", 1, 1), parts)
    daily.put_figure("honesty", DAY, {"of": ["u", "v"]})
    assert repository.erase("u") == 4
    assert daily.figure("honesty") is None
    assert daily.members("day") == {"2026-03-01": {"v"}}
    assert [state.day for state in daily.stale()] == ["2026-03-01"]


def test_a_figure_is_kept_until_it_is_made_again(repository: Repository) -> None:
    daily = Daily(repository.engine)
    assert daily.figure("honesty") is None
    daily.put_figure("honesty", DAY, {"n": [1, None, 0.5]})
    daily.put_figure("honesty", DAY + timedelta(hours=1), {"n": []})
    assert daily.figure("honesty") == (DAY + timedelta(hours=1), {"n": []})


def test_a_day_begins_and_ends_in_utc() -> None:
    assert bounds(date(2026, 2, 28)) == (datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))


def test_two_that_sum_one_day_leave_the_sums_of_one(repository: Repository) -> None:
    daily, started = Daily(repository.engine), threading.Barrier(4)
    failed: list[BaseException] = []

    def put(worker: int) -> None:
        parts = {Part("2026-03-01", f"u{index}", "python", "g", "a"): DaySums(requests=worker) for index in range(worker)}
        started.wait()
        try:
            for _ in range(5):
                daily.put(DayState("2026-03-01", worker, worker), parts)
                daily.put_figure("one", DAY, worker)
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=put, args=(number,)) for number in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    (sums,) = daily.sums(()).values()
    (state,) = daily._summed().values()
    assert sums.requests == state.decisions**2
