"""Where programs of others run: the jails by name, and which one there is here.

`bwrap` is the jail; `run_code` asks a server that speaks Sandbox Fusion's API; `none` is no jail and has to be asked for in
words. What each one covers and what not stands at the head of `jail_bwrap`, `jail_run_code` and `jail_unjailed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .errors import JailUnavailable
from .jail_bwrap import BwrapJail
from .jail_types import Guarantee, Jail, Job, Limits, Ran, Status
from .jail_unjailed import Unjailed

__all__ = ["BACKENDS", "Guarantee", "Jail", "Job", "Limits", "Ran", "Status", "open_jail"]

BACKENDS: Final = ("bwrap", "run_code", "none")


def open_jail(backend: str = "bwrap", *, endpoint: str = "", unjailed_because: str = "", shown: Sequence[Path] = ()) -> Jail:
    """The jail called `backend`. `endpoint` is the server's base URL (`run_code`); `none` needs `unjailed_because`; `shown` are
    folders that commands may read in the jail (`bwrap`).

    Raises `JailUnavailable`, with what to install or to say, where it cannot be had.
    """
    if backend == "bwrap":
        return BwrapJail(shown=shown)
    if backend == "run_code":
        if not endpoint:
            raise JailUnavailable("The backend run_code needs the base URL of a server that runs code.")
        from .jail_run_code import RunCodeJail

        return RunCodeJail(endpoint)
    if backend == "none":
        if not unjailed_because.strip():
            raise JailUnavailable("Without a jail a program can do all that you can: say in words why that is wanted here.")
        return Unjailed(unjailed_because)
    raise JailUnavailable(f"There is no jail {backend!r}; there are: {', '.join(BACKENDS)}.")
