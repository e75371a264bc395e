"""Real keys in real time: one programmer at one server, who asks after every key, as editors do.

The keys, their rhythm and the pauses are those of `coderl simulate` (`simulate.programmer`). Differences: the clock is the
machine's; a request follows every key and every accept, so that requests really get superseded; a suggestion is on the screen
when its answer comes, and may be taken only in a pause that leaves the time to read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from coderl_gate.costs import CostParameters, costs_of

from ..simulate.client import Asked, Editor, Offer
from ..simulate.options import Typescript
from ..simulate.programmer import Take, judge
from ..simulate.session import keys_in
from .figures import Timed

LAST_ANSWER_S = 30.0
"""How long the last answer is waited for before the other server has its turn."""


class _Noting:
    """A writer that says so before it writes."""

    def __init__(self, writer: Any, writing: Callable[[], None]) -> None:
        self._writer, self._writing = writer, writing

    def write(self, data: bytes) -> Any:
        self._writing()
        return self._writer.write(data)

    def close(self) -> Any:
        return self._writer.close()


class TimedEditor(Editor):
    """An editor that notes when its messages leave and when answers come in, before anything is made of them."""

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self._written_s = 0.0
        self._arrived_s: dict[object, float] = {}
        made = self.protocol.structure_message

        def arriving(data: dict[str, Any]) -> Any:
            if "jsonrpc" in data and "method" not in data:
                self._arrived_s[data.get("id")] = time.perf_counter()
            return made(data)

        self.protocol.structure_message = arriving  # type: ignore[method-assign]  # pygls has no hook there

    def watch_writer(self) -> None:
        """To be called once the server runs."""
        assert self.protocol.writer is not None
        self.protocol.set_writer(_Noting(self.protocol.writer, self._writing))

    def _writing(self) -> None:
        self._written_s = time.perf_counter()

    def timed_request(self) -> tuple[Asked, float]:
        """Ask at the cursor; with the moment the request was written, in seconds of `time.perf_counter`."""
        return self.request(), self._written_s

    def arrived_s(self, asked: Asked) -> float:
        """When the answer's last byte was read."""
        return self._arrived_s.pop(asked.request_id)


class Typist:
    """Types files into one server. `timed` holds every request, in order."""

    def __init__(self, editor: TimedEditor, costs: CostParameters) -> None:
        self._editor = editor
        self._costs = costs
        self._script: Typescript | None = None
        self._index = 0
        self._open: tuple[Asked, float, str] | None = None
        self.timed: list[Timed] = []
        self.keystrokes = 0

    @property
    def done(self) -> bool:
        """Whether the file is typed to its end."""
        return self._script is None or self._index >= len(self._script.keys)

    async def open(self, script: Typescript) -> None:
        """Go to the next file."""
        self._script, self._index = script, 0
        await self._editor.open(script.uri, script.language, script.text[: script.start], script.text[script.end :])

    async def type_keys(self, count: int, until_s: float) -> None:
        """Type so many keys, or to the end of the file, or to a moment of the event loop's clock; then wait for the answer that
        is under way, so that nothing of it runs in another server's turn. Raises ServerFailed."""
        assert self._script is not None
        keys, loop = self._script.keys, asyncio.get_running_loop()
        last = min(len(keys), self._index + count)
        while self._index < last and loop.time() < until_s:
            key = keys[self._index]
            await self._idle(key.gap_s)
            self._editor.insert(key.text)
            self._index += 1
            self.keystrokes += 1
            self._ask()
            if key.pause is not None:
                await self._pause(key.pause.length_s)
        await self._idle(0.0 if self._open is None else LAST_ANSWER_S, answer_ends_it=True)
        self._settle()

    def _ask(self) -> None:
        self._settle()
        assert self._script is not None
        asked, sent_s = self._editor.timed_request()
        self._open = asked, sent_s, f"{self._script.path.name}:{self._editor.cursor.offset}"

    def _settle(self) -> Offer | None:
        """Write down what became of the request that is open: it was answered, or is superseded now."""
        if self._open is None:
            return None
        (asked, sent_s, place), self._open = self._open, None
        if not asked.answered:
            self.timed.append(Timed(place, (time.perf_counter() - sent_s) * 1000.0, answered=False))
            return None
        items = asked.items()
        ms = (self._editor.arrived_s(asked) - sent_s) * 1000.0
        self.timed.append(Timed(place, ms, answered=items is not None))
        if not items:
            return None
        offer = self._editor.offer(items[0])
        self._editor.shown(offer)
        return offer

    async def _idle(self, seconds: float, *, answer_ends_it: bool = False) -> Offer | None:
        """Let real time pass. An answer that comes meanwhile is on the screen at once."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        offer: Offer | None = None
        if self._open is not None:
            answer = asyncio.wrap_future(self._open[0].future)
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([answer], timeout=seconds)
            if self._open[0].answered:
                offer = self._settle()
                if answer_ends_it:
                    return offer
        await asyncio.sleep(max(0.0, end_s - loop.time()))
        return offer

    async def _pause(self, seconds: float) -> None:
        """Stop typing; take what is offered where it is right and there is time to read it."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while (left_s := end_s - loop.time()) > 0:
            offer = await self._idle(left_s, answer_ends_it=True)
            if offer is None or not await self._read(offer, end_s):
                await asyncio.sleep(max(0.0, end_s - loop.time()))
                return
            self._ask()

    async def _read(self, offer: Offer, end_s: float) -> bool:
        """Whether anything of it was taken."""
        editor, script = self._editor, self._script
        assert script is not None
        text, loop = offer.new_text, asyncio.get_running_loop()
        reading_s = costs_of(len(text), text.count("\n") + 1, self._costs).t_verify_s
        if not offer.usable or loop.time() + reading_s > end_s:
            return False
        await asyncio.sleep(reading_s)
        judgement = judge(text, script.text[editor.cursor.offset : script.end])
        if judgement.take is Take.NOTHING:
            return False
        if judgement.take is Take.WHOLE:
            await editor.accept(offer)
        else:
            editor.accept_part(offer, judgement.chars)
        self._index += keys_in(script.keys[self._index :], judgement.chars)
        return True

    async def leave(self) -> None:
        """Close the file."""
        self._settle()
        self._editor.close_document()
        await self._editor.ask("coderl/status", {})


async def warm(editor: TimedEditor, samples: Sequence[str] = ("import os\n",)) -> int:
    """Ask in a document that has nothing to do with the measurement until the model is loaded; returns how many requests that
    took. Raises ServerFailed."""
    for index, text in enumerate(samples):
        await editor.open(f"file:///warm/{index}.py", "python", text, "")
        asked = editor.request()
        answer = asyncio.wrap_future(asked.future)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([answer], timeout=LAST_ANSWER_S)
        editor.close_document()
    return len(samples)
