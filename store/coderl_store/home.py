"""Where the log lives, who may read it, and how names are hidden.

The home folder holds the database, the spool and the salt. It is `CODERL_HOME`, else the platform's user data folder, and is
created for its owner only (mode 0700).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from .errors import SettingsError
from .records import Privacy

SALT_BYTES = 32
KEY_BYTES = 16
"""Length of a hashed key: 128 bits, so two documents of one programmer do not share a key by chance."""

_DATABASE_FILE = "coderl.db"
_SALT_FILE = "salt"


def home() -> Path:
    """The folder of this installation, created if it is missing. Raises `SettingsError` where it cannot be."""
    named = os.environ.get("CODERL_HOME")
    if named:
        folder = Path(named).expanduser()
    else:
        from platformdirs import user_data_dir

        folder = Path(user_data_dir("coderl", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"The data folder {folder} cannot be used ({error.strerror}): set CODERL_HOME to a folder you may write to."
        ) from error
    return folder.resolve()


def default_database_url(folder: Path) -> str:
    """The SQLite file of the home folder as an SQLAlchemy URL."""
    if "?" in str(folder):
        raise SettingsError(f"The data folder {folder} has a question mark in its name, which a database URL cannot hold.")
    return f"sqlite:///{folder / _DATABASE_FILE}"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where to write and what. Raises `SettingsError` on construction with values that cannot work."""

    home: Path
    database_url: str
    """An SQLAlchemy URL with the scheme sqlite or postgresql."""
    privacy: Privacy = Privacy.METRICS

    def __post_init__(self) -> None:
        scheme, separator, rest = self.database_url.partition("://")
        if not separator or scheme.split("+")[0] not in ("sqlite", "postgresql"):
            raise SettingsError(
                "The database must be a URL such as sqlite:////home/me/coderl.db or postgresql+psycopg://user@host/name."
            )
        if scheme.startswith("sqlite") and rest.split("?")[0] in ("", "/", "/:memory:"):
            raise SettingsError("The database URL names a database in memory, which would forget the log: name a file.")

    @classmethod
    def from_environment(cls, database_url: str | None = None, privacy: Privacy | str | None = None) -> StoreSettings:
        """The settings given, else `CODERL_DATABASE_URL` and `CODERL_PRIVACY`, else the defaults. Raises `SettingsError`."""
        folder = home()
        level = privacy or os.environ.get("CODERL_PRIVACY") or Privacy.METRICS
        try:
            chosen = Privacy(level)
        except ValueError as error:
            choices = ", ".join(member.value for member in Privacy)
            raise SettingsError(f"CODERL_PRIVACY must be one of {choices}, not {level!r}.") from error
        named = os.environ.get("CODERL_DATABASE_URL")
        try:
            return cls(folder, database_url or named or default_database_url(folder), chosen)
        except SettingsError as error:
            if database_url or not named:
                raise
            raise SettingsError(f"CODERL_DATABASE_URL cannot be used: {error}") from error


def salt(folder: Path) -> bytes:
    """The secret of this installation, 32 random bytes, made once. Raises `SettingsError` where it cannot be made or read.

    Several processes may ask at once: the first to link its file wins and all read the same bytes.
    """
    path = folder / _SALT_FILE
    try:
        if not path.exists():
            _create_salt(path)
        value = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The salt file {path} cannot be used ({error.strerror}): check the folder's permissions."
        ) from error
    if len(value) != SALT_BYTES:
        raise SettingsError(
            f"The salt file {path} is damaged: delete it to get a new one (users and documents will get new keys)."
        )
    return value


def _create_salt(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(SALT_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first: its salt counts
    finally:
        draft.unlink(missing_ok=True)


def hashed(key: bytes, text: str) -> str:
    """A name (of a user, of a document) that cannot be read back without the salt: keyed BLAKE2b (RFC 7693), 32 hex digits.

    Not covered: someone who holds the salt can test guesses.
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=KEY_BYTES).hexdigest()
