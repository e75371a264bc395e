"""Which generator was made active when, and where it came from: facts beside the log, never changed once written.

They belong to no session and to no programmer, hold no code, and say what is behind a `generator_id` of the log's rows. What is
active on a machine is written in its data folder (`coderl_generator.promotion`); one database may serve several machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Event(StrEnum):
    """What happened."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    """Another one was given up for it."""


@dataclass(frozen=True, slots=True)
class GeneratorVersion:
    """One generator became the active one of a machine."""

    id: str
    at: datetime
    event: Event
    generator_id: str
    """As it stands in the log's rows."""
    kind: str
    """`model` (a GGUF file), `adapter` (a folder in PEFT's form) or `embedded` (nothing that was promoted)."""
    instead_of: str = ""
    """The generator that was active before; empty where none was promoted."""
    base: str = ""
    """The generator it was made from, as its file says."""
    adapter: str = ""
    """`name@version` of what was trained, as the file says."""
    sha256: str = ""
    """Of the GGUF file, or of the adapter's weights."""
    size_bytes: int = 0
