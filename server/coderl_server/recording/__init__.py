"""Recording a protocol session and playing it again: `coderl record` and `coderl replay --lsp`."""

from .player import PlayReport, play
from .proxy import record

__all__ = ["PlayReport", "play", "record"]
