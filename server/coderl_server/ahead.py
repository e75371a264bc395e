"""Work for requests that have not come yet, done while nothing else runs.

**Reading.** A prompt that is new to the backend costs seconds on two cores. So the text before the cursor is evaluated when a
short document is opened, and where the gate skipped a request whose prompt is cold (`llama.vscode` sends context with
`n_predict 0` in the same manner). Only for backends with a `prefill`.

**Writing.** While a suggestion is on the screen that will probably be accepted, what would follow it is generated and
remembered, so that the next request is answered at once (after `llama.vscode`, which does so for every suggestion).

One piece of work at a time. Any request ends it, but for one at a place that lies on the way to what is being written: the
programmer types what was shown. On a clock that the client moves nothing is done ahead, so that played sessions are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coderl_generator.backend import Backend, GenerationRequest
from coderl_generator.complete import Budget, rendered
from coderl_generator.errors import GeneratorError
from coderl_generator.prompt import Place
from coderl_generator.reuse import TAIL_CHARS, Reuse
from coderl_generator.stop_rules import StopRule

logger = logging.getLogger(__name__)

COLD_CHARS: Final = 300
"""A prompt with more characters than this that the backend has not seen is worth reading ahead: some 100 tokens."""
LIKELY: Final = 0.7
"""P(kept) above which what follows a suggestion is written ahead: three of ten are wasted, at most."""
PAUSE_S: Final = 0.3
"""How long a suggestion stands before what follows it is written."""
DOCUMENTS: Final = 3
"""So many documents' prompts are taken to be warm: the slots of the embedded backend."""
_HOLDER: Final = "ahead"

Prefill = Callable[[GenerationRequest], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Way:
    """From the place of a suggestion to the place behind it."""

    document: str
    end: str
    """The last characters before the place that it leads to."""
    chars: int
    """Length of the suggestion."""

    def passes(self, place: Place) -> bool:
        """Whether a place is where the suggestion begins, or further on."""
        tail = place.prefix[-TAIL_CHARS // 2 :]
        at = self.end.rfind(tail)
        return self.document == place.key and at >= 0 and at + len(tail) >= len(self.end) - self.chars

    def leads_where(self, other: _Way) -> bool:
        """Whether both end at one place."""
        return (self.document, self.end) == (other.document, other.end)


class Ahead:
    """See the module. Its methods are called on the event loop, and return at once."""

    def __init__(self, backend: Backend | None, reuse: Reuse, now: Callable[[], float]) -> None:
        self._backend = backend
        self._reuse = reuse
        self._now = now
        self._warm: OrderedDict[str, str] = OrderedDict()
        """Per document the prompt that was evaluated last."""
        self._task: asyncio.Task[None] | None = None
        self._reading = ""
        """The document that is being read; empty while nothing is, or something is written."""
        self._way: _Way | None = None

    @property
    def _prefill(self) -> Prefill | None:
        """Of the backend as it is now: a model may be changed while the server runs."""
        return getattr(self._backend, "prefill", None)

    def reads(self, place: Place, budget: Budget) -> None:
        """The backend gets the prompt of this place now, for a request."""
        if self._prefill is not None:
            self._note(place.key, self._prompt(place, budget))

    def read(self, place: Place, budget: Budget) -> None:
        """Evaluate the text before a place, where it is cold and nothing else is done."""
        prefill = self._prefill
        if prefill is None or self._task is not None:
            return
        prompt = self._prompt(place, budget)
        if len(prompt) - _common(prompt, self._warm.get(place.key, "")) <= COLD_CHARS:
            return
        self._note(place.key, prompt)
        self._begin(prefill(GenerationRequest(prompt, document=place.key)))
        self._reading = place.key

    def write(self, place: Place, shown: str, budget: Budget, rules: Sequence[StopRule] = ()) -> None:
        """Generate and remember a completion for the time after `shown` is accepted: at a place whose prefix ends in it.

        `budget` and `rules` as the request for that place will have them.
        """
        way = _Way(place.key, place.prefix[-TAIL_CHARS:], len(shown))
        if self._backend is None or (self._task is not None and self._way is not None and self._way.leads_where(way)):
            return
        self.stop()
        self._begin(self._written(self._backend, place, budget, rules))
        self._way = way

    def expect(self, place: Place | None) -> None:
        """A request was read: give up what does not lead to it."""
        if place is None or self._way is None or not self._way.passes(place):
            self.stop()

    def stop(self) -> None:
        """Give up what is being done."""
        if self._task is not None:
            self._task.cancel()
            self._task, self._way = None, None
            self._warm.pop(self._reading, None)  # what was read of it is kept, but how much that is nobody says
            self._reading = ""
            self._reuse.release(_HOLDER)

    async def _written(self, backend: Backend, place: Place, budget: Budget, rules: Sequence[StopRule]) -> None:
        await asyncio.sleep(PAUSE_S)
        self.reads(place, budget)
        try:
            await self._reuse.complete(_HOLDER, place.key, backend, place, budget, self._now, rules=rules)
        finally:
            self._reuse.release(_HOLDER)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._task = asyncio.create_task(work)

        def ended(done: asyncio.Task[None]) -> None:
            if self._task is done:
                self._task, self._way, self._reading = None, None, ""
            if not done.cancelled() and (error := done.exception()) is not None:
                # Nobody waits for it; the next request meets the same trouble, and the user is told of that one.
                level = logging.INFO if isinstance(error, GeneratorError) else logging.ERROR
                logger.log(level, "Work ahead of a request failed: %s", error, exc_info=level == logging.ERROR and error)

        task.add_done_callback(ended)

    def _prompt(self, place: Place, budget: Budget) -> str:
        """Without healing: what a begun word adds is too little to count."""
        return rendered(place, budget, forces=False).text

    def _note(self, document: str, prompt: str) -> None:
        self._warm[document] = prompt
        self._warm.move_to_end(document)
        while len(self._warm) > DOCUMENTS:
            self._warm.popitem(last=False)


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    shortest = min(len(one), len(other))
    if one[:shortest] == other[:shortest]:
        return shortest
    low, high = 0, shortest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low
