"""Completions that need not be decoded again: those remembered, and those under way.

A completion fits a later place where the text before that place is the text it was made for, and then a beginning of the
completion itself, and where everything else it depends on (`Key`) is the same, the text after the place to the letter. What is
left of it is then the answer: the programmer typed through it. The same holds for a generation that still runs, as long as
what it has written so far and what was typed agree; so it is not cancelled when a newer request replaces the one it was
begun for, but when no request is left that it could answer.

As in Copilot's client (`microsoft/vscode-copilot-chat`, `completionsCache.ts` and `asyncCompletions.ts`: 100 prefixes, exact
suffix, generations go on while they match). Keys never hold other documents' versions, and never the prefix alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, Completion, Watch, unwatched
from coderl_generator.extract import Extracted
from coderl_generator.prompt import Place
from coderl_generator.several import complete_several
from coderl_generator.stop_rules import Reason, StopRule

logger = logging.getLogger(__name__)

TAIL_CHARS: Final = 1000
"""So much of the text before a place identifies it within its document."""
CAPACITY: Final = 100
"""Completions remembered; the least recently used goes first."""


class Source(StrEnum):
    """Where a completion came from."""

    GENERATED = "generated"
    JOINED = "joined"
    """From a generation that an earlier request had begun."""
    REMEMBERED = "remembered"


@dataclass(frozen=True, slots=True)
class Key:
    """What a completion depends on besides the text before its place."""

    generator_id: str
    document: str
    language: str
    suffix: str
    """The part of the text after the place that the generator is shown or the extraction looks at."""
    budget: tuple[object, ...]

    @staticmethod
    def of(generator_id: str, document: str, place: Place, budget: Budget) -> Key:
        """`max_tokens`, deadline and time-outs say how long it may take, not what it says: they are no part of it."""
        shape = (budget.mode, budget.template, budget.temperature, budget.top_p, budget.seed, budget.max_chars)
        return Key(generator_id, document, place.language, place.suffix[: budget.max_suffix_chars], shape)


@dataclass(frozen=True, slots=True)
class Before:
    """The text before a place, as far as it identifies the place. Line ends are \\n, as in a completion."""

    tail: str
    whole: bool
    """`tail` begins where the document begins."""

    @staticmethod
    def of(prefix: str) -> Before:
        tail = _last(prefix, TAIL_CHARS)
        return Before(tail, len(tail) < TAIL_CHARS or len(prefix) == len(tail))

    def typed_since(self, prefix: str, longest: int) -> str | None:
        """What was typed between this place and the one behind `prefix`, at most `longest` characters; None where that place
        does not lie there."""
        if self.whole:
            # One more than may have been typed: what is longer is seen to be.
            text = _last(prefix, len(self.tail) + longest + 1)
            typed = text[len(self.tail) :] if text.startswith(self.tail) else None
        else:
            window = _last(prefix, len(self.tail) + longest)
            at = window.rfind(self.tail)
            typed = window[at + len(self.tail) :] if at >= 0 else None
        return typed if typed is not None and len(typed) <= longest else None


@dataclass(slots=True)
class Idea:
    """A completion at the place it was made for."""

    key: Key
    before: Before
    max_tokens: int
    """What it was allowed to take."""
    completion: Completion
    offers_all: bool = False
    """Its other candidates are all there (`Budget.offer_all`)."""
    lineage: str = ""
    """The lineage its suggestions share; given by whoever makes the first one."""

    @property
    def memorable(self) -> bool:
        """It holds text, and neither a deadline nor a watch cut it."""
        return bool(self.completion.text.strip()) and self.completion.reason not in (Reason.DEADLINE, Reason.UNPROMISING)

    def serves(self, max_tokens: int) -> bool:
        """It would not have been longer with so many tokens, or for somebody else."""
        if self.completion.reason is Reason.UNPROMISING:
            return False
        return self.completion.reason is not Reason.LENGTH or self.max_tokens >= max_tokens

    def at(self, prefix: str) -> Completion | None:
        """What is left of it at the place behind `prefix`; None where nothing is, or it does not fit there."""
        told = (self.completion, *self.completion.others)
        typed = self.before.typed_since(prefix, max(len(one.text) for one in told))
        if typed is None:
            return None
        left = [one.after(len(typed)) for one in told if one.text.startswith(typed) and one.text[len(typed) :].strip()]
        return replace(left[0], others=tuple(left[1:])) if left else None


@dataclass(frozen=True, slots=True)
class Found:
    """An answer: what is left of an idea at the place, and how it was come by."""

    completion: Completion
    idea: Idea
    source: Source


class Memory:
    """Ideas by use, at most `capacity`, one per place and key."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._ideas: OrderedDict[tuple[Key, Before], Idea] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ideas)

    def remember(self, idea: Idea) -> None:
        """Keep it; an older one for the same place goes."""
        place = idea.key, idea.before
        self._ideas[place] = idea
        self._ideas.move_to_end(place)
        while len(self._ideas) > self._capacity:
            self._ideas.popitem(last=False)

    def recall(self, key: Key, prefix: str, max_tokens: int, all_wanted: bool = False) -> Found | None:
        """Of the ideas that fit, the one used last; where all candidates are wanted, only of those that have them."""
        for place, idea in reversed(self._ideas.items()):
            if idea.key != key or (all_wanted and not idea.offers_all) or not idea.serves(max_tokens):
                continue
            if (left := idea.at(prefix)) is not None:
                self._ideas.move_to_end(place)
                return Found(left, idea, Source.REMEMBERED)
        return None


@dataclass(slots=True, eq=False)
class _Flight:
    """One generation under way."""

    key: Key
    before: Before
    max_tokens: int
    offers_all: bool = False
    text: str = ""
    """Written so far; may still be cut at the end."""
    holders: dict[str, str] = field(default_factory=dict)
    """Requests that it may answer, by id, each with what was typed since it began. Without any it is cancelled."""
    task: asyncio.Task[Idea] | None = None

    def hold(self, request_id: str, prefix: str) -> bool:
        """Keep it for the request at the place behind `prefix`; False where what was typed and what is written disagree, and
        where it has ended or was given up: it may stand in the list until its callback has run, and who waited for it then
        would not wait at all, again and again."""
        if self.task is not None and (self.task.done() or self.task.cancelling()):
            return False
        typed = self.before.typed_since(prefix, TAIL_CHARS)
        if typed is None or not _agree(typed, self.text):
            return False
        self.holders[request_id] = typed
        return True

    def wrote(self, text: str) -> None:
        """More text has come: let go the requests it turns out not to answer."""
        self.text = text
        for request_id in [name for name, typed in self.holders.items() if not _agree(typed, text)]:
            self.release(request_id)

    def release(self, request_id: str) -> None:
        """The request does not want it any more."""
        if self.holders.pop(request_id, None) is not None and not self.holders and self.task is not None:
            self.task.cancel()


async def _at_once() -> None:
    """Nothing is waited for."""


class Reuse:
    """The generations of a session: remembered, joined, or begun.

    A request calls `expect` when it is read, `complete` if it comes to that, and `release` when it has ended, however it did.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._memory = Memory(capacity)
        self._flights: list[_Flight] = []
        self.misses = 0
        """So many generations in a row were given up: what was typed and what was written did not agree."""
        self.usable_tokens = 0
        """Decoded tokens that make the text of a completion, whoever got it in the end."""
        self.end_tokens = 0
        """The token that showed the end of such a text: a line's end is a token, and shows that the text is whole."""
        self.around_tokens = 0
        """Other decoded tokens of such completions: what was rewritten before the text, and what was cut off behind it."""
        self.empty_tokens = 0
        """Decoded tokens of completions that came to nothing."""

    def expect(self, request_id: str, document: str, place: Place) -> None:
        """Generations of this document that agree with the place go on, though the request they were begun for is replaced.

        To be called before that one is cancelled.
        """
        for flight in self._flights:
            if flight.key.document == document and place.suffix.startswith(flight.key.suffix):
                flight.hold(request_id, place.prefix)

    def release(self, request_id: str) -> None:
        """Generations that nobody else waits for are cancelled."""
        for flight in tuple(self._flights):
            flight.release(request_id)

    async def complete(
        self,
        request_id: str,
        document: str,
        backend: Backend,
        place: Place,
        budget: Budget,
        now: Callable[[], float],
        *,
        watch: Watch = unwatched,
        rules: Sequence[StopRule] = (),
        pause: Callable[[], Awaitable[None]] = _at_once,
    ) -> Found:
        """As `coderl_generator.complete.complete`, and raises what that raises; decodes only where nothing else will do.

        `pause` is awaited before a generation is begun; what is remembered or under way needs none. `watch` counts while no
        other request waits for what it watches.
        """
        key = Key.of(backend.generator_id, document, place, budget)
        started_s, paused = now(), False
        while True:
            found = self._memory.recall(key, place.prefix, budget.max_tokens, budget.offer_all)
            if found is None:
                flight = self._holding(request_id, key, place, budget)
                if flight is None and not paused:
                    paused = True
                    await pause()
                    budget = budget.later(now() - started_s)
                    continue
                if flight is None:
                    self.release(request_id)  # what it does not join would only stand in its way
                    idea = await self._landed(self._begin(request_id, key, backend, place, budget, now, watch, rules))
                    assert idea is not None  # the place it was begun for always agrees with it
                    return Found(idea.completion, idea, Source.GENERATED)
                joined = await self._landed(flight)
                left = None if joined is None or not joined.serves(budget.max_tokens) else joined.at(place.prefix)
                if joined is None or left is None:
                    continue
                found = Found(left, joined, Source.JOINED)
            return replace(found, completion=found.completion.taking((now() - started_s) * 1000.0))

    def _holding(self, request_id: str, key: Key, place: Place, budget: Budget) -> _Flight | None:
        for flight in self._flights:
            if flight.key != key or flight.max_tokens < budget.max_tokens or (budget.offer_all and not flight.offers_all):
                continue
            if flight.hold(request_id, place.prefix):
                return flight
        return None

    def _begin(
        self,
        request_id: str,
        key: Key,
        backend: Backend,
        place: Place,
        budget: Budget,
        now: Callable[[], float],
        watch: Watch,
        rules: Sequence[StopRule],
    ) -> _Flight:
        flight = _Flight(key, Before.of(place.prefix), budget.max_tokens, budget.offer_all, holders={request_id: ""})

        def alone(so_far: Extracted) -> bool:
            return tuple(flight.holders) == (request_id,) and watch(so_far)

        async def fly() -> Idea:
            several = await complete_several(backend, place, budget, now, flight.wrote, alone, rules)
            if several.failure is not None:
                logger.warning("Further candidates could not be made: %s", several.failure)
            idea = Idea(key, flight.before, budget.max_tokens, several.best, budget.offer_all)
            for candidate in several.candidates:
                self._count(candidate.completion)
            if idea.memorable:
                self._memory.remember(idea)
            return idea

        def landed(done: asyncio.Task[Idea]) -> None:
            self._flights.remove(flight)
            self.misses = self.misses + 1 if done.cancelled() else 0
            if not done.cancelled():
                done.exception()  # whoever waits for it is told; nobody may

        flight.task = asyncio.create_task(fly())
        flight.task.add_done_callback(landed)
        self._flights.append(flight)
        return flight

    def _count(self, completion: Completion) -> None:
        if completion.text.strip():
            # A branch begins with tokens that another candidate decoded.
            usable = min(len(completion.token_ids), completion.tokens_used - completion.end_tokens)
            self.usable_tokens += usable
            self.end_tokens += completion.end_tokens
            self.around_tokens += completion.tokens_used - usable - completion.end_tokens
        else:
            self.empty_tokens += completion.tokens_used

    async def _landed(self, flight: _Flight) -> Idea | None:
        """What a generation came to; None where it was given up meanwhile."""
        assert flight.task is not None
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if flight.task.cancelled() and (waiter is None or not waiter.cancelling()):
                return None
            raise


def _last(text: str, chars: int) -> str:
    """The last characters of a text, a line end being one (\\n). Only as much is read as may be needed."""
    end = text[-2 * chars :]
    return end.replace("\r\n", "\n").replace("\r", "\n")[-chars:] if "\r" in end else end[-chars:]


def _agree(typed: str, written: str) -> bool:
    return written.startswith(typed) or typed.startswith(written)
