"""Which team server an editor uses, and with which token. A token never stands on a command line, where other users see it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError

TEAM = "team"
"""The name of the server's model among those that `Generators` builds."""
TOKEN_VARIABLE = "CODERL_TOKEN"  # a name, not a token


@dataclass(frozen=True, slots=True)
class TeamServer:
    """An address, and where its token is."""

    url: str
    """Without a slash at its end."""
    token_file: Path | None = None

    @classmethod
    def at(cls, url: str, token_file: Path | None = None) -> TeamServer:
        """Raises InputError for what is no address of a server, and for a token file that holds no token."""
        try:
            parts = urlsplit(url.strip())
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError("--server must be the address of a team server, such as https://team.example:8766.")
        if parts.username or parts.password:
            raise InputError(f"--server must not hold a name or a password: the token belongs in {TOKEN_VARIABLE}.")
        server = cls(url.strip().rstrip("/"), token_file)
        server.token()
        return server

    def token(self) -> str | None:
        """The token as it is now: that of the file, else of `CODERL_TOKEN`; None where there is neither. Raises InputError."""
        if self.token_file is None:
            return os.environ.get(TOKEN_VARIABLE, "").strip() or None
        try:
            text = self.token_file.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--token-file {self.token_file} cannot be read: put the token into it, alone.") from error
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise InputError(f"--token-file {self.token_file} must hold the token and nothing else.")
        return text

    def headers(self) -> Mapping[str, str]:
        """What shows who asks. Raises InputError where the token file went away."""
        token = self.token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def folder(self, home: Path) -> Path:
        """Where what belongs to this server is kept: what it is to get (the spool), and what it gave (gates, facts)."""
        return home / "servers" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
