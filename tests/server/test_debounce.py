"""How long a request waits before a generation begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.debounce import BEGUN_CHARS, BEGUN_GAPS, SURE_GAPS, UNSURE_GAPS, Debounce, idle_s
from coderl_store.records import Reason, Suggestion, Trigger

unit = st.floats(0, 1)
gaps_ms = st.floats(0, 2_000)


def answering_in(*answers_ms: float) -> Debounce:
    debounce = Debounce()
    for answer_ms in answers_ms:
        debounce.answered(answer_ms)
    return debounce


def test_the_answer_comes_after_so_many_gaps() -> None:
    fast = answering_in(50.0)
    assert fast.delay_ms(0.0, 200.0, 0.0, 1_000.0) == pytest.approx(UNSURE_GAPS * 200 - 50)
    assert fast.delay_ms(1.0, 200.0, 0.0, 1_000.0) == pytest.approx(SURE_GAPS * 200 - 50)
    assert fast.delay_ms(0.0, 200.0, 120.0, 1_000.0) == pytest.approx(UNSURE_GAPS * 200 - 120 - 50)
    assert fast.delay_ms(0.0, 200.0, 0.0, 100.0) == 100.0


def test_a_slow_generator_is_its_own_debounce() -> None:
    assert answering_in(500.0).delay_ms(0.0, 200.0, 0.0, 1_000.0) == 0.0


def test_after_generations_that_were_given_up_it_is_longer() -> None:
    slow = answering_in(500.0)
    delays_ms = [slow.delay_ms(0.5, 200.0, 20.0, 1_000.0, misses=misses) for misses in range(4)]
    assert delays_ms == pytest.approx([0.0, 80.0, 180.0, 180.0])
    assert slow.delay_ms(0.5, 200.0, 20.0, 60.0, misses=3) == 60.0


def test_behind_the_first_letters_of_a_word_it_is_longer() -> None:
    fast = answering_in(50.0)
    begun_ms = fast.delay_ms(0.5, 200.0, 20.0, 1_000.0, word_chars=1)
    whole_ms = fast.delay_ms(0.5, 200.0, 20.0, 1_000.0, word_chars=BEGUN_CHARS + 1)
    assert fast.delay_ms(0.5, 200.0, 20.0, 1_000.0, word_chars=BEGUN_CHARS) == begun_ms
    assert fast.delay_ms(0.5, 200.0, 20.0, 1_000.0) == whole_ms == pytest.approx(begun_ms - BEGUN_GAPS * 200.0)
    assert fast.delay_ms(0.5, 200.0, 20.0, 100.0, word_chars=1) == 100.0


def test_before_anything_was_typed_nothing_is_waited_for() -> None:
    assert Debounce().delay_ms(0.0, None, None, 300.0) == Debounce().delay_ms(0.0, None, 10.0, 300.0) == 0.0


@given(unit, unit, gaps_ms, gaps_ms, st.lists(gaps_ms, max_size=5), st.floats(0, 5_000), st.integers(0, 5), st.integers(0, 20))
def test_bounded_and_shorter_where_an_accept_is_likelier(
    one: float,
    other: float,
    interval_ms: float,
    since_ms: float,
    answers_ms: list[float],
    most_ms: float,
    misses: int,
    letters: int,
) -> None:
    debounce = answering_in(*answers_ms)
    low, high = sorted((one, other))
    likely, unlikely = (
        debounce.delay_ms(p1, interval_ms, since_ms, most_ms, misses=misses, word_chars=letters) for p1 in (high, low)
    )
    assert 0.0 <= likely <= unlikely + 1e-9 <= most_ms + 1e-9


def test_idle_time() -> None:
    assert idle_s(300.0, 100.0, Trigger.AUTOMATIC) == pytest.approx(0.2)
    assert idle_s(300.0, 400.0, Trigger.AUTOMATIC) == 0.0
    assert idle_s(300.0, None, Trigger.AUTOMATIC) == 0.0
    assert idle_s(300.0, 100.0, Trigger.INVOKED) == 0.0


async def answered_after_s(bench: Any, character: int, *, invoked: bool = False) -> float:
    """Seconds of the virtual clock from the request to its answer."""
    started_s = bench.clock.now_s()
    task = asyncio.ensure_future(bench.service.suggest(bench.capture(0, character, invoked=invoked)))
    for _ in range(1_000):
        for _ in range(12):
            await asyncio.sleep(0)
        if task.done():
            assert await task is not None
            return bench.clock.now_s() - started_s
        bench.clock.advance_to(bench.clock.now_s() + 0.01)
    raise AssertionError("no answer")


def typed(bench: Any, keys: str, gap_s: float = 0.2) -> int:
    """Type behind `sum(`; returns the cursor's character."""
    for index, key in enumerate(keys):
        bench.clock.advance_to(bench.clock.now_s() + gap_s)
        bench.type(key, 0, 4 + index)
    return 4 + len(keys)


@pytest.mark.parametrize(
    ("settings", "keys", "invoked", "low_s", "high_s"),
    [
        ({"max_debounce_ms": 300.0}, "vwxyz", False, 0.2, 0.26),  # (1.5 − 0.4) gaps of 0.2 s
        ({"max_debounce_ms": 1000.0}, "wxyz", False, 0.4, 0.46),  # a gap more: the word has only begun
        ({"max_debounce_ms": 300.0}, "wxyz", False, 0.3, 0.32),
        ({"max_debounce_ms": 100.0}, "wxyz", False, 0.1, 0.12),
        ({"max_debounce_ms": 0.0}, "wxyz", False, 0.0, 0.0),
        ({"max_debounce_ms": 300.0}, "wxyz", True, 0.0, 0.0),
        ({"max_debounce_ms": 0.0, "min_idle_ms": 400.0}, "vwxyz", False, 0.4, 0.42),
        ({"max_debounce_ms": 300.0, "min_idle_ms": 400.0}, "vwxyz", False, 0.4, 0.42),
    ],
)
def test_a_request_waits_for_the_next_key(
    workbench: Any, settings: dict[str, float], keys: str, invoked: bool, low_s: float, high_s: float
) -> None:
    bench = workbench(decides="always_show", **settings)
    bench.open()
    character = typed(bench, keys)
    assert low_s - 1e-6 <= asyncio.run(answered_after_s(bench, character, invoked=invoked)) <= high_s
    assert len(bench.backend.requests) == 1


def test_what_is_remembered_waits_for_the_idle_time_alone_and_what_is_typed_along_for_nothing(workbench: Any) -> None:
    bench = workbench(decides="always_show", max_debounce_ms=300.0, min_idle_ms=200.0)
    bench.open()
    asyncio.run(answered_after_s(bench, 4))
    typed(bench, "va")
    assert asyncio.run(answered_after_s(bench, 6)) == 0.0
    assert bench.decision.reason is Reason.TYPED_ALONG
    bench.service.reported({"id": bench.suggestion.id, "kind": "moved_on"})
    assert 0.1 < asyncio.run(answered_after_s(bench, 6)) <= 0.2 + 0.01  # the clock moves in steps of 0.01
    assert bench.suggestion.source == "remembered"


def test_a_key_in_the_meantime_costs_no_token(workbench: Any) -> None:
    bench = workbench(decides="always_show", max_debounce_ms=300.0)
    bench.open()
    character = typed(bench, "xyz")

    async def drive() -> None:
        older = asyncio.ensure_future(bench.service.suggest(bench.capture(0, character)))
        for _ in range(12):
            await asyncio.sleep(0)
        bench.clock.advance_to(bench.clock.now_s() + 0.1)
        bench.type("w", 0, character)
        asked = bench.capture(0, character + 1)
        older.cancel()
        for _ in range(12):
            await asyncio.sleep(0)
        assert bench.backend.requests == []
        bench.service.superseded(asked)

    asyncio.run(drive())
    assert bench.rows(Suggestion) == []


def test_the_deadline_is_the_whole_requests(workbench: Any) -> None:
    bench = workbench(decides="always_show", max_debounce_ms=300.0, deadline_ms=1_000.0)
    bench.open()
    character = typed(bench, "xyz")
    waited_s = asyncio.run(answered_after_s(bench, character))
    assert bench.backend.requests[0].deadline_s == pytest.approx(1.0 - waited_s, abs=0.011)
