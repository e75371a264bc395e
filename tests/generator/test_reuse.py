"""Completions that are not decoded again: typed through, joined under way, given up when nobody can use them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason
from coderl_generator.complete import LEAST_S, Budget, Completion
from coderl_generator.errors import BackendUnavailable
from coderl_generator.extract import Mode
from coderl_generator.prompt import Place
from coderl_generator.reuse import TAIL_CHARS, Before, Found, Idea, Key, Memory, Reuse, Source
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend, split
from coderl_generator.stop_rules import Reason
from coderl_store.clock import VirtualClock

PLACE = Place("def add(a, b):\n    ", "\n\nprint(add(1, 2))\n", "python", "add.py")
TEXT = "return a + b"
BUDGET = Budget()


def completion(text: str, reason: Reason = Reason.LINE) -> Completion:
    pieces = split(text)
    ends = tuple(len("".join(pieces[: index + 1])) for index in range(len(pieces)))
    numbers = tuple(range(len(pieces)))
    return Completion(
        text, numbers, tuple(-float(n) for n in numbers), 5.0, 9.0, FinishReason.STOP, reason, len(pieces), 9, "", ends
    )


def key(place: Place = PLACE, budget: Budget = BUDGET, generator: str = "g", document: str = "file:///add.py") -> Key:
    return Key.of(generator, document, place, budget)


def idea(text: str = TEXT, place: Place = PLACE, reason: Reason = Reason.LINE, max_tokens: int = 48) -> Idea:
    return Idea(key(place), Before.of(place.prefix), max_tokens, completion(text, reason))


class Desk:
    """One document, a scripted generator and a clock that is moved by hand."""

    def __init__(self, text: str = "\n    return a + b\nmore", **rule: object) -> None:
        self.clock = VirtualClock(0.0)
        self.backend = ScriptedBackend(self.clock, Script(default=Rule(text, **rule)))  # type: ignore[arg-type]  # by name
        self.reuse = Reuse()
        self.asked = 0

    def begin(self, place: Place = PLACE, budget: Budget = BUDGET, document: str = "file:///add.py") -> asyncio.Task[Found]:
        """A request as the server handles it: announced, answered, released."""
        self.asked += 1
        name = f"r{self.asked}"
        self.reuse.expect(name, document, place)

        async def answer() -> Found:
            try:
                return await self.reuse.complete(name, document, self.backend, place, budget, self.clock.now_s)
            finally:
                self.reuse.release(name)

        return asyncio.ensure_future(answer())

    async def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            for _ in range(12):
                await asyncio.sleep(0)
            self.clock.advance_to(self.clock.now_s() + 0.05)
        for _ in range(12):
            await asyncio.sleep(0)

    async def answered(self, place: Place = PLACE, budget: Budget = BUDGET, document: str = "file:///add.py") -> Found:
        task = self.begin(place, budget, document)
        await self.pass_(5.0)
        return await task


def typed(chars: str, place: Place = PLACE) -> Place:
    return replace(place, prefix=place.prefix + chars)


async def test_what_was_typed_through_is_answered_from_memory() -> None:
    desk = Desk()
    first = await desk.answered()
    assert (first.completion.text, first.source) == (TEXT, Source.GENERATED)
    decoded = desk.backend.decoded_tokens
    for chars in ("r", "return", "return a +"):
        again = await desk.answered(typed(chars))
        assert (chars + again.completion.text, again.source) == (TEXT, Source.REMEMBERED)
        assert again.idea is first.idea
        assert (again.completion.tokens_used, again.completion.first_token_ms) == (0, None)
        assert len(again.completion.token_ids) == len(again.completion.logprobs) == len(again.completion.token_ends)
    assert desk.backend.decoded_tokens == decoded


@pytest.mark.parametrize(
    ("place", "budget"),
    [
        (typed("x"), BUDGET),
        (typed(TEXT), BUDGET),
        (replace(PLACE, suffix="\n\nprint(add(1, 3))\n"), BUDGET),
        (replace(PLACE, prefix="def sub(a, b):\n    "), BUDGET),
        (PLACE, replace(BUDGET, mode=Mode.BLOCK)),
        (PLACE, replace(BUDGET, temperature=0.5)),
        (PLACE, replace(BUDGET, template="suffix")),
    ],
)
async def test_anything_else_that_differs_is_generated_anew(place: Place, budget: Budget) -> None:
    desk = Desk()
    await desk.answered()
    assert (await desk.answered(place, budget)).source is Source.GENERATED


async def test_a_pause_is_made_before_a_generation_only_and_counts_in_its_deadline() -> None:
    desk, pauses = Desk(), []

    async def pause() -> None:
        pauses.append(desk.clock.now_s())
        await desk.clock.sleep(0.3)

    async def answered(place: Place) -> Source:
        task = asyncio.ensure_future(
            desk.reuse.complete("r", "file:///add.py", desk.backend, place, BUDGET, desk.clock.now_s, pause=pause)
        )
        await desk.pass_(5.0)
        return (await task).source

    assert await answered(PLACE) is Source.GENERATED
    assert await answered(typed("ret")) is Source.REMEMBERED
    assert len(pauses) == 1
    assert BUDGET.deadline_s is None
    assert replace(BUDGET, deadline_s=1.0).later(0.3).deadline_s == pytest.approx(0.7)
    assert replace(BUDGET, deadline_s=1.0).later(3.0).deadline_s == LEAST_S


async def test_a_generation_is_given_up_only_where_nobody_else_waits_for_it() -> None:
    for joined in (False, True):
        desk = Desk("\n    a + b + c + d + e + f + g + h\n", first_delay_ms=100.0, delay_ms=10.0)
        first = asyncio.ensure_future(
            desk.reuse.complete(
                "r", "file:///add.py", desk.backend, PLACE, BUDGET, desk.clock.now_s, watch=lambda so_far: bool(so_far.text)
            )
        )
        await desk.pass_(0.05)
        second = desk.begin(typed("a")) if joined else None
        await desk.pass_(5.0)
        reason = (await first).completion.reason
        assert (reason is Reason.UNPROMISING) is not joined
        if second is not None:
            assert (await second).source is Source.JOINED


async def test_documents_do_not_answer_for_each_other() -> None:
    desk = Desk()
    await desk.answered()
    assert (await desk.answered(document="file:///other.py")).source is Source.GENERATED


async def test_a_running_generation_goes_on_while_what_is_typed_agrees() -> None:
    desk = Desk(first_delay_ms=500.0, delay_ms=100.0)
    first = desk.begin()
    await desk.pass_(0.7)
    second = desk.begin(typed("ret"))  # the server reads it, and then cancels the one before
    first.cancel()
    await desk.pass_(0.2)
    third = desk.begin(typed("return a"))
    second.cancel()
    await desk.pass_(5.0)
    found = await third
    assert (found.completion.text, found.source) == (" + b", Source.JOINED)
    assert len(desk.backend.requests) == 1


async def test_a_generation_nobody_can_use_stops_and_the_newer_one_begins() -> None:
    desk = Desk(first_delay_ms=100.0, delay_ms=100.0)
    first = desk.begin()
    await desk.pass_(0.4)
    second = desk.begin(typed("x = "))
    first.cancel()
    await desk.pass_(0.0)
    at_once = desk.backend.decoded_tokens
    with suppress(asyncio.CancelledError):
        await first
    await desk.pass_(5.0)
    assert (await second).source is Source.GENERATED
    assert len(desk.backend.requests) == 2
    assert desk.backend.decoded_tokens - at_once <= len(split("\n    return a + b\n"))


async def test_a_generation_is_given_up_when_it_turns_out_to_disagree() -> None:
    """Typed faster than written: the first words agree, the rest does not."""
    desk = Desk(first_delay_ms=300.0, delay_ms=100.0)
    first = desk.begin()
    await desk.pass_(0.1)
    second = desk.begin(typed("return x"))
    first.cancel()
    await desk.pass_(6.0)
    found = await second
    assert found.source is Source.GENERATED
    assert len(desk.backend.requests) == 2


async def test_a_request_that_comes_to_nothing_lets_the_generation_go() -> None:
    desk = Desk(first_delay_ms=100.0, delay_ms=100.0)
    first = desk.begin()
    await desk.pass_(0.2)
    desk.reuse.expect("skipped", "file:///add.py", typed("r"))
    first.cancel()
    await desk.pass_(0.1)
    going_on = desk.backend.decoded_tokens
    desk.reuse.release("skipped")
    await desk.pass_(2.0)
    assert 0 < going_on <= desk.backend.decoded_tokens <= going_on + 1


async def test_two_requests_wait_for_one_generation() -> None:
    desk = Desk(first_delay_ms=100.0)
    both = [desk.begin(), desk.begin()]
    await desk.pass_(2.0)
    assert [(await one).source for one in both] == [Source.GENERATED, Source.JOINED]


async def test_a_failure_reaches_everybody_who_waits_and_is_not_remembered() -> None:
    desk = Desk("\n    return", first_delay_ms=100.0, failure=Failure.UNAVAILABLE)
    both = [desk.begin(), desk.begin()]
    await desk.pass_(2.0)
    for one in both:
        with pytest.raises(BackendUnavailable):
            await one
    with pytest.raises(BackendUnavailable):
        await desk.answered()


async def test_what_a_deadline_cut_is_not_remembered() -> None:
    desk = Desk(delay_ms=400.0)
    budget = replace(BUDGET, deadline_s=1.0)
    assert (await desk.answered(budget=budget)).completion.reason is Reason.DEADLINE
    assert (await desk.answered(budget=budget)).source is Source.GENERATED


async def test_a_draft_that_was_cut_short_does_not_answer_a_full_request() -> None:
    desk = Desk("\n    return a + b + c + d + e + f\n")
    draft = replace(BUDGET, max_tokens=4)
    assert (await desk.answered(budget=draft)).completion.reason is Reason.LENGTH
    assert (await desk.answered()).source is Source.GENERATED
    assert (await desk.answered(budget=draft)).source is Source.REMEMBERED


def test_the_memory_is_bounded_and_keeps_what_is_used() -> None:
    memory = Memory(2)
    places = [replace(PLACE, prefix=f"x{number} = ") for number in range(3)]
    memory.remember(idea(place=places[0]))
    memory.remember(idea(place=places[1]))
    assert memory.recall(key(), places[0].prefix, 48) is not None
    memory.remember(idea(place=places[2]))
    assert len(memory) == 2
    assert [memory.recall(key(), place.prefix, 48) is not None for place in places] == [True, False, True]


@given(st.text("ab\n ", max_size=2500), st.text("ab\n ", max_size=40), st.text("ab\n ", max_size=40))
def test_a_place_goes_on_exactly_where_the_text_before_it_does(prefix: str, now: str, later: str) -> None:
    """Whatever lies before: the rest of an idea, put behind what is there, is the text the idea stands for; or nothing is."""
    place = replace(PLACE, prefix=prefix)
    made = idea(now + later, place)
    left = made.at(prefix + now)
    if left is None:
        assert not later.strip() or len(prefix) > TAIL_CHARS
    elif len(prefix) <= TAIL_CHARS:
        assert prefix + now + left.text == prefix + now + later
    else:  # a text that repeats itself may be taken for one period less; its end is the same
        assert (now + later).endswith(left.text)
    assert left is None or left.token_ends[-1] == len(left.text)


@given(st.text("ab\n", max_size=1500), st.text("ab\n", max_size=60), st.text("ab\n", max_size=60))
def test_line_ends_of_dos_make_no_difference(prefix: str, text: str, other: str) -> None:
    """The completion has \\n where the document has \\r\\n."""
    for typed in (text[: len(text) // 2], other):
        places = [prefix, prefix.replace("\n", "\r\n")]
        typings = [typed, typed.replace("\n", "\r\n")]
        unix, dos = (
            idea(text, replace(PLACE, prefix=place)).at(place + keys) for place, keys in zip(places, typings, strict=True)
        )
        assert (unix and unix.text) == (dos and dos.text)


@given(st.text("ab\n ", min_size=1, max_size=30), st.text("ab\n ", max_size=30))
def test_another_text_before_the_place_is_another_place(prefix: str, other: str) -> None:
    before = Before.of(prefix)
    since = before.typed_since(other, 100)
    assert since is None or prefix + since == other


async def test_generations_in_a_row_that_were_given_up_are_counted() -> None:
    desk = Desk(first_delay_ms=100.0, delay_ms=10.0)
    for misses in (1, 2):
        first = desk.begin()
        await desk.pass_(0.0)
        first.cancel()
        await asyncio.wait([first])
        await desk.pass_(0.0)
        assert desk.reuse.misses == misses
    await desk.answered()
    assert desk.reuse.misses == 0


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("text", ["\n    return a + b\nmore", ""])
async def test_a_request_that_comes_as_a_generation_ends_gets_its_own(steps: int, text: str) -> None:
    """Between its end and the callback that takes it off the list it must not be waited for: it would end at once, for ever."""

    def hung(*_: object) -> None:
        raise RuntimeError("the event loop is held up")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, 10.0)
    try:
        desk = Desk(text, first_delay_ms=100.0, delay_ms=10.0)
        first = desk.begin()
        await desk.pass_(0.0)
        # A timer, so that this test has its turn before whatever follows from it, in every turn of the loop.
        end = first.cancel if text else lambda: desk.clock.advance_to(desk.clock.now_s() + 1.0)  # it comes to nothing
        asyncio.get_running_loop().call_later(0, end)
        for _ in range(steps):
            await asyncio.sleep(0)
        assert (await desk.answered()).completion.text == (TEXT if text else "")
        await asyncio.wait([first])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
