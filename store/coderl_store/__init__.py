"""The log of CodeRL: vocabulary, durable spool, database. Importing this package imports the standard library only."""

from .clock import Clock, SystemClock, VirtualClock
from .codec import decode, encode
from .errors import DatabaseError, RecordError, SettingsError, SpoolError, StoreError
from .home import StoreSettings, hashed, home, salt
from .ids import IdSource
from .log import Log
from .memory import MemoryLog
from .privacy import admit
from .sink import LogHealth, RecordSink

__all__ = [
    # writing
    "Log",
    "MemoryLog",
    "RecordSink",
    "LogHealth",
    "StoreSettings",
    "home",
    "salt",
    "hashed",
    # time and ids
    "Clock",
    "SystemClock",
    "VirtualClock",
    "IdSource",
    # one record
    "encode",
    "decode",
    "admit",
    # errors
    "StoreError",
    "SettingsError",
    "RecordError",
    "DatabaseError",
    "SpoolError",
]
