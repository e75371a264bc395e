"""The most memory that this process has held so far, which a run notes with every step."""

from __future__ import annotations

import resource
import sys
from typing import Final

MEMORY: Final = "memory/peak_mb"
"""The metric's name."""
_BYTES: Final = 1 if sys.platform == "darwin" else 1024
"""Of the unit in which `getrusage` gives the resident set: bytes on macOS, KiB on Linux (getrusage(2))."""


def peak_mb() -> float:
    """Largest resident set since the process began, in MB of 10⁶ bytes. Not counted: programs that are judged, which are
    processes of their own with limits of their own, and a GPU's memory. Linux carries the size of the program that started this
    one over `exec`, so the figure is at least that: too high, where that was larger."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES / 1e6
