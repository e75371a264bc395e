"""What an editor's machine keeps of a team server, so that it starts at once and goes on without it: its model, its gate."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from coderl_gate.bundle import unpack

FILE = "facts.json"


@dataclass(frozen=True, slots=True)
class Facts:
    """As it was when the server was last reached."""

    generator_id: str = ""
    """Of the model it serves; empty = none, or not known."""
    template: str = ""
    """The prompt template that fits that model."""
    user_key: str = ""
    """Of the token, as rows and the gate's tendencies there bear it; empty = not known."""
    gate_etag: str = ""
    """Of the active gate; empty = not known."""
    forces_beginning: bool = False
    """Whether the model can be made to begin with a text (`coderl_generator.backend.Backend`)."""

    def gate(self, folder: Path) -> Path | None:
        """Where the gate is kept; each has a folder of its own, because several editors share them."""
        return None if not self.gate_etag else folder / "gates" / hashlib.sha256(self.gate_etag.encode()).hexdigest()[:16]


def read(folder: Path) -> Facts:
    """What is known; nothing where nothing was kept or the file cannot be used."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        facts = Facts(**content)
    except (OSError, ValueError, TypeError):
        return Facts()
    if any(type(value) is not type(getattr(Facts(), name)) for name, value in asdict(facts).items()):
        return Facts()
    gate = facts.gate(folder)
    return facts if gate is None or gate.is_dir() else replace(facts, gate_etag="")


def keep(folder: Path, facts: Facts, gate: bytes | None) -> None:
    """Keep the facts, and the gate where one was sent. Raises `OSError` and `ArtifactError`."""
    place = facts.gate(folder)
    if gate is not None and place is not None and not place.is_dir():
        unpack(gate, place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{FILE}.{os.getpid()}"
    draft.write_text(json.dumps(asdict(facts)), encoding="utf-8")
    draft.replace(folder / FILE)
