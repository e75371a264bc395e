"""UUIDv7 (RFC 9562 §5.7): ids that sort by time and can be made again from the same clock and seed."""

from __future__ import annotations

import random
import uuid

from .clock import Clock


class IdSource:
    """Makes ids. With a virtual clock and a seeded `rng` the same session makes the same ids.

    Within one millisecond the 12 bits of `rand_a` count up (RFC 9562 §6.2, method 1), so ids of one source are strictly
    increasing.
    """

    def __init__(self, clock: Clock, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._last_ms = -1
        self._counter = 0

    def new(self) -> str:
        """A new UUIDv7 as its 36-character text."""
        now_ms = int(self._clock.now_s() * 1000)
        if now_ms > self._last_ms:
            self._last_ms, self._counter = now_ms, 0
        else:
            self._counter += 1
            if self._counter > 0xFFF:
                self._last_ms, self._counter = self._last_ms + 1, 0
        value = (self._last_ms & ((1 << 48) - 1)) << 80
        value |= 0x7 << 76 | self._counter << 64 | 0b10 << 62 | self._rng.getrandbits(62)
        return str(uuid.UUID(int=value))
