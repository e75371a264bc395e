"""The server's exceptions.

ServerError
├── SettingsError  (ValueError)  something the user or the client configured makes no sense: one sentence, what to do
├── DocumentError  (ValueError)  a document cannot be served as it stands (its text was dropped because of its size …)
├── InputError     (ValueError)  a file or option given to a command cannot be used: one sentence; exit status 2
├── Interrupted    (RuntimeError) Ctrl-C ended something that can be gone on with: one sentence, how; exit status 130
└── ServerFailed   (RuntimeError) the server under simulation, record or replay died, hung or broke its promises; exit status 1
"""

from __future__ import annotations


class ServerError(Exception):
    """Root of everything this package raises on purpose."""


class SettingsError(ServerError, ValueError):
    """A setting makes no sense; the message says which and what to do."""


class DocumentError(ServerError, ValueError):
    """A document cannot be served as it stands; the message says why."""


class InputError(ServerError, ValueError):
    """A file or option given to a command cannot be used; the message says which and why."""


class Interrupted(ServerError, RuntimeError):
    """The user ended something that can be gone on with; the message says how."""


class ServerFailed(ServerError, RuntimeError):
    """The server that a simulation, a recording or a replay talks to died, hung or broke its promises."""
