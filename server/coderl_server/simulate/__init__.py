"""A programmer made of real code, typing into the server through a real client: `coderl simulate`."""

from .options import SimulateOptions
from .report import Counters, FileReport, SimulateReport
from .session import run

__all__ = ["Counters", "FileReport", "SimulateOptions", "SimulateReport", "run"]
