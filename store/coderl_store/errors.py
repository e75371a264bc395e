"""The store's exceptions.

StoreError
├── SettingsError      (ValueError)   the user's setting is wrong: the message says which and what to write instead
├── RecordError        (ValueError)   a line of the spool or a row of the database does not hold a valid record
├── DatabaseError      (OSError)      the database cannot be reached, written or migrated; what was appended waits in the spool
└── SpoolError         (OSError)      the spool itself cannot be written (disk full, folder missing, no permission)
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of everything this package raises on purpose."""


class SettingsError(StoreError, ValueError):
    """A setting is unusable; the message names it and says what to write instead."""


class RecordError(StoreError, ValueError):
    """Text that should hold a record does not."""


class DatabaseError(StoreError, OSError):
    """The database cannot be reached, written or migrated. Nothing acknowledged is lost: it waits in the spool."""


class SpoolError(StoreError, OSError):
    """The spool file cannot be written. The record was *not* acknowledged."""
