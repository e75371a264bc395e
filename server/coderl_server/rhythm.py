"""The typing rhythm: how fast this programmer types right now, from the times of edits alone."""

from __future__ import annotations

import math
from collections import deque

GAPS = 20
"""How many gaps between keystrokes are looked back on."""
PAUSE_S = 2.0
"""A longer gap is thinking, not typing."""
KEY_CHARS = 2
"""An edit that inserts more than this is no keystroke (an editor adds one character when it closes a bracket by itself)."""


class Rhythm:
    """Fed with every edit, in any order of files. Times are seconds of one clock.

    Pauses of `PAUSE_S` and longer, pastes and accepted suggestions are left out, and so is the gap that leads to them.
    Not covered: clients that gather keys before they send them make the gaps look longer than they are.
    """

    def __init__(self) -> None:
        self._gaps_s: deque[float] = deque(maxlen=GAPS)
        self._chars: deque[int] = deque(maxlen=GAPS)
        """Those of each gap."""
        self._last_s: float | None = None

    def edited(self, at_s: float, typed_chars: int) -> None:
        """One edit that inserted `typed_chars` characters (0 for a deletion, which is a keystroke too)."""
        key = typed_chars <= KEY_CHARS
        if key and self._last_s is not None:
            gap_s = at_s - self._last_s
            if 0.0 <= gap_s < PAUSE_S:
                self._gaps_s.append(gap_s)
                self._chars.append(typed_chars)
        self._last_s = at_s

    def interval_ms(self) -> float | None:
        """Mean gap between the last keystrokes (at most 20); None before there is one."""
        return 1000.0 * sum(self._gaps_s) / len(self._gaps_s) if self._gaps_s else None

    def spread_ms(self) -> float | None:
        """Standard deviation of those gaps; None before there are two."""
        if len(self._gaps_s) < 2:
            return None
        mean_s = sum(self._gaps_s) / len(self._gaps_s)
        return 1000.0 * math.sqrt(sum([(gap_s - mean_s) ** 2 for gap_s in self._gaps_s]) / len(self._gaps_s))

    def chars_per_s(self) -> float | None:
        """Characters that came in per second of typing; None where no time was measured."""
        seconds = sum(self._gaps_s)
        return sum(self._chars) / seconds if seconds > 0.0 else None
