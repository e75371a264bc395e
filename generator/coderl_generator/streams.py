"""What a request asks of any stream of tokens, kept for backends that only know how to decode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from coderl_generator.backend import FinishReason, GenerationRequest, Patience, Token, end_mark
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut
from coderl_generator.stop_texts import StopTexts


class Streams:
    """The open streams of one backend."""

    def __init__(self, name: str) -> None:
        """`name` stands in messages: "the model server"."""
        self._name = name
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False

    async def keep(self, request: GenerationRequest, tokens: AsyncGenerator[Token, None]) -> AsyncGenerator[Token, None]:
        """The tokens of a decoding, with the request's stop texts, time-out and deadline kept.

        `tokens` ends with an end mark, and stops decoding when it is closed. It is closed before an end mark is handed on: a
        consumer that stops reading there must not keep the model decoding. Raises `GenerationTimedOut`, `BackendUnavailable`
        after `close`, and what `tokens` raises.
        """
        loop = asyncio.get_running_loop()
        patience = Patience(request, loop.time())
        stops = StopTexts(request.stop)
        try:
            while True:
                token = await self._next(tokens, request, patience)
                for one in stops.flush() if token.finish else stops.push(token):
                    yield one
                if stops.hit:
                    token = end_mark(FinishReason.STOP)
                elif not token.finish and patience.over(loop.time()):
                    for one in stops.flush():
                        yield one
                    token = end_mark(FinishReason.DEADLINE)
                if token.finish:
                    await tokens.aclose()
                    yield token
                    return
        finally:
            await tokens.aclose()

    def close(self) -> None:
        """Streams that wait for a token end with `BackendUnavailable` now, the others at their next token."""
        self._closed = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    async def _next(self, tokens: AsyncGenerator[Token, None], request: GenerationRequest, patience: Patience) -> Token:
        loop = asyncio.get_running_loop()
        wait = asyncio.timeout(patience.wait_s(loop.time()))
        try:
            async with wait:
                self._check_open()
                self._waits.add(wait)
                return await anext(tokens)
        except StopAsyncIteration:
            raise BackendUnavailable(f"{self._name} ended the stream without a reason") from None
        except TimeoutError:
            self._check_open()
            if patience.over(loop.time()):
                return end_mark(FinishReason.DEADLINE)
            raise GenerationTimedOut(f"{self._name} gave no token in {request.timeout_s:g} s") from None
        finally:
            self._waits.discard(wait)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable(f"{self._name} was shut down")
