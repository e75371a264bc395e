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
        self._gaps: deque[tuple[float, int]] = deque(maxlen=GAPS)
        self._last_s: float | None = None

    def edited(self, at_s: float, typed_chars: int) -> None:
        """One edit that inserted `typed_chars` characters (0 for a deletion, which is a keystroke too)."""
        key = typed_chars <= KEY_CHARS
        if key and self._last_s is not None:
            gap_s = at_s - self._last_s
            if 0.0 <= gap_s < PAUSE_S:
                self._gaps.append((gap_s, typed_chars))
        self._last_s = at_s

    def interval_ms(self) -> float | None:
        """Mean gap between the last keystrokes (at most 20); None before there is one."""
        if not self._gaps:
            return None
        return 1000.0 * sum(gap_s for gap_s, _ in self._gaps) / len(self._gaps)

    def spread_ms(self) -> float | None:
        """Standard deviation of those gaps; None before there are two."""
        if len(self._gaps) < 2:
            return None
        mean_s = sum(gap_s for gap_s, _ in self._gaps) / len(self._gaps)
        return 1000.0 * math.sqrt(sum((gap_s - mean_s) ** 2 for gap_s, _ in self._gaps) / len(self._gaps))

    def chars_per_s(self) -> float | None:
        """Characters that came in per second of typing; None where no time was measured."""
        seconds = sum(gap_s for gap_s, _ in self._gaps)
        return sum(chars for _, chars in self._gaps) / seconds if seconds > 0.0 else None
