"""Token buckets: how often somebody may ask. Pure; the time is passed in."""

from __future__ import annotations

from collections import OrderedDict


class Buckets:
    """One bucket per key, of one size and one rate. Forgets the keys that were used longest ago, above `most_keys`.

    Each worker process has its own, so a client whose connections spread over n workers may get up to n times the rate.
    Used on the event loop only.
    """

    def __init__(self, per_s: float, burst: float, most_keys: int = 10_000) -> None:
        self._per_s, self._burst, self._most_keys = per_s, burst, most_keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """The seconds until one can be taken; nothing is taken."""
        level, at_s = self._levels.get(key, (self._burst, now_s))
        level = min(self._burst, level + max(0.0, now_s - at_s) * self._per_s)
        return 0.0 if level >= 1 else (1 - level) / self._per_s

    def take(self, key: str, now_s: float) -> float:
        """Take one; 0 where it was there, else the seconds until it will be (nothing is taken then)."""
        level, at_s = self._levels.pop(key, (self._burst, now_s))
        level = min(self._burst, level + max(0.0, now_s - at_s) * self._per_s)
        self._levels[key] = (level - 1 if level >= 1 else level, now_s)
        if len(self._levels) > self._most_keys:
            self._levels.popitem(last=False)
        return 0.0 if level >= 1 else (1 - level) / self._per_s
