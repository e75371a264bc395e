"""What a backend did, in numbers that only it can know: tokens read, reused and decoded, and how fast it stopped when told to.

Written by the backend's thread, read from any other; each number is replaced whole, so a reader sees old or new ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

STOPS: Final = 10_000
"""Stops that are remembered one by one; older ones are counted only."""


class Counters:
    """Since the backend was built. A backend that keeps them has them as its attribute `counters`."""

    def __init__(self) -> None:
        self.decoded_tokens = 0
        """Over all streams, wanted or not."""
        self.prompt_tokens = 0
        """Tokens of the prompts of all streams whose reading had begun."""
        self.reused_tokens = 0
        """Those of them that came from the cache and were not evaluated anew."""
        self.unread_tokens = 0
        """Those of them that were never read, because the stream was given up before."""
        self.timed_tokens = 0
        """Tokens that came after another one of the same stream; `decoding_s` is the time they took."""
        self.decoding_s = 0.0
        self.given_up = 0
        """Streams that were cancelled while the model worked on them."""
        self.given_up_tokens = 0
        """Decoded for those."""
        self.never_began = 0
        """Streams that were cancelled while they waited for the model."""
        self.given_up_ms: deque[float] = deque(maxlen=STOPS)
        """From each cancellation to the moment the model was free, the last `STOPS`."""
        self.ended_ms: deque[float] = deque(maxlen=STOPS)
        """The same for streams whose reader had what it wanted and stopped reading."""

    def progressed(self, progress: Mapping[str, Any], read_before: int | None) -> int:
        """A message of llama.cpp about the prompt (`prompt_progress`); `read_before` is what the last one of this stream gave
        back, None for the first. Returns the tokens read so far, those from the cache included."""
        total, cached, read = int(progress["total"]), int(progress["cache"]), int(progress["processed"])
        if read_before is None:
            self.prompt_tokens += total
            self.reused_tokens += cached
            self.unread_tokens += total - read
        else:
            self.unread_tokens -= read - read_before
        return read

    def timed(self, last_s: float | None, now_s: float) -> float:
        """A token came; `last_s` is when the one before it came in its stream (None for the first). Returns `now_s`."""
        if last_s is not None:
            self.timed_tokens += 1
            self.decoding_s += now_s - last_s
        return now_s

    def stopped(self, after_ms: float, tokens: int, *, given_up: bool) -> None:
        """The model was free so long after it had been told to stop, and had decoded so many tokens."""
        self.given_up += given_up
        self.given_up_tokens += tokens if given_up else 0
        (self.given_up_ms if given_up else self.ended_ms).append(round(after_ms, 3))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the attributes by their names."""
        return {name: list(value) if isinstance(value, deque) else value for name, value in vars(self).items()}
