"""Stop texts, matched on our side so that every backend ends a stream in the same way and tells why."""

from __future__ import annotations

from dataclasses import replace

from coderl_generator.backend import Token


class StopTexts:
    """Holds tokens back while they may be the beginning of a stop text; cuts where one is complete.

    Matching here instead of in the model server costs at most one decoded token and tells an end of sequence from a stop
    text, which OpenAI-compatible servers report with the same word. Not covered: a stop text split by a character that
    itself spans tokens is matched only when that character is complete.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held: list[Token] = []
        self.hit = False
        """Whether a stop text came. Nothing may be pushed after that."""

    def push(self, token: Token) -> list[Token]:
        """The tokens that are safe to hand on now, in order. The stop text itself is never among them."""
        if not self._stop:
            return [token]
        self._held.append(token)
        text = "".join(held.text for held in self._held)
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            return self._release(min(found), cut=True)
        return self._release(len(text) - self._open_chars(text), cut=False)

    def flush(self) -> list[Token]:
        """The tokens still held when the stream ended without a stop text."""
        held, self._held = self._held, []
        return held

    def _open_chars(self, text: str) -> int:
        """Length of the longest end of `text` that is a beginning of a stop text."""
        longest = max(len(stop) for stop in self._stop) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0

    def _release(self, chars: int, *, cut: bool) -> list[Token]:
        """Tokens that lie wholly before `chars`; with `cut` also the beginning of the one that straddles it."""
        out: list[Token] = []
        start = 0
        while self._held and start + len(self._held[0].text) <= chars:
            token = self._held.pop(0)
            start += len(token.text)
            out.append(token)
        if cut:
            if self._held and start < chars:
                straddling = self._held[0]
                out.append(replace(straddling, text=straddling.text[: chars - start]))
            self._held.clear()
        return out
