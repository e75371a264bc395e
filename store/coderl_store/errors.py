"""The store's exceptions.

StoreError
├── SettingsError      (ValueError)   the user's setting is wrong: the message says which and what to write instead
│   └── LogMissing                    a reader was pointed at an SQLite file that is not there
├── RecordError        (ValueError)   a line of the spool or a row of the database does not hold a valid record
├── DatabaseError      (OSError)      the database cannot be reached, written or migrated; what was appended waits in the spool
│   └── LogOutdated                   a reader that may not migrate met an older schema
└── SpoolError         (OSError)      the spool itself cannot be written (disk full, folder missing, no permission)
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of everything this package raises on purpose."""


class SettingsError(StoreError, ValueError):
    """A setting is unusable; the message names it and says what to write instead."""


class LogMissing(SettingsError):
    """There is no database where one should be read."""


class RecordError(StoreError, ValueError):
    """Text that should hold a record does not."""


class DatabaseError(StoreError, OSError):
    """The database cannot be reached, written or migrated. Nothing acknowledged is lost: it waits in the spool."""


class LogOutdated(DatabaseError):
    """The database has an older schema, and the reader may not migrate it."""


class SpoolError(StoreError, OSError):
    """The spool file cannot be written. The record was *not* acknowledged."""
