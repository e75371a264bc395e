"""The programmer of this machine, as the operating system names them."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """The account's name, or its number where it has none. It is hashed before it is written anywhere."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
