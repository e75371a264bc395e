"""Numbers as people read them: pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUTE_S, HOUR_S = 60.0, 3600.0
UNKNOWN = "not known"


def count(value: float) -> str:
    """A whole number with thousands apart."""
    return f"{round(value):,}"


def share(part: float, whole: float, digits: int = 0) -> str:
    """A part in per cent."""
    return f"{part / whole:.{digits}%}".replace("%", " %") if whole else UNKNOWN


def decimal(value: float | None, digits: int = 3) -> str:
    """A number, or that it is not known."""
    return UNKNOWN if value is None or not math.isfinite(value) else _signed(f"{value:.{digits}f}")


def seconds(value: float | None, digits: int = 2) -> str:
    """Seconds with a sign, per request or the like."""
    return UNKNOWN if value is None or not math.isfinite(value) else _signed(f"{value:+.{digits}f}") + " s"


def duration(value_s: float) -> str:
    """A total of seconds in the unit that suits it, with a sign."""
    size = abs(value_s)
    if size >= 2 * HOUR_S:
        return _signed(f"{value_s / HOUR_S:+,.1f}") + " h"
    if size >= 2 * MINUTE_S:
        return _signed(f"{value_s / MINUTE_S:+,.1f}") + " min"
    return _signed(f"{value_s:+,.0f}") + " s"


def unit_of(values_s: Sequence[float]) -> tuple[float, str]:
    """The unit in which such values read well: its seconds, and its name."""
    most = max(map(abs, values_s), default=0.0)
    return (HOUR_S, "hours") if most >= 2 * HOUR_S else (MINUTE_S, "minutes") if most >= 2 * MINUTE_S else (1.0, "seconds")


def milliseconds(value: float | None) -> str:
    """Milliseconds, finer where they are few."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"


def short(name: str, most: int = 28) -> str:
    """A name, its middle left out where it is long."""
    if not name:
        return "unknown"
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"


def _signed(text: str) -> str:
    """With a real minus, and without one before nothing."""
    if text.lstrip("+-").replace(",", "").strip("0.") == "":
        return text.lstrip("+-")
    return text.replace("-", "−")
