"""How long the programmer waits, measured on a real server in real time: `coderl bench latency`."""

from .figures import LatencyReport
from .measure import LatencyOptions, measure

__all__ = ["LatencyOptions", "LatencyReport", "measure"]
