"""What the language servers have logged about the files of one test."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from coderl_store.home import hashed, salt


class Log:
    """The database of the language servers, as far as it is about the files of one test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._files: list[Path] = []

    def begin(self) -> None:
        """Another test, with files of its own."""
        self._files.clear()

    def watch(self, file: Path) -> None:
        self._files.append(file)

    def _rows(self, columns: str, tables: str, order: str) -> list[tuple[Any, ...]]:
        if not (self.home / "coderl.db").exists():
            return []
        # Paths are not logged, only what their salted hash is.
        keys = [hashed(salt(self.home), file.as_uri()) for file in self._files]
        marks = ", ".join("?" * len(keys))
        query = f"SELECT {columns} FROM {tables} JOIN contexts c ON c.id = d.context_id"
        # Read-only: the server that writes must never wait for a test.
        database = sqlite3.connect(f"file:{self.home / 'coderl.db'}?mode=ro", uri=True)
        try:
            return database.execute(f"{query} WHERE c.document_key IN ({marks}) ORDER BY {order}", keys).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "locked" in str(error):
                return []  # another look will tell
            raise
        finally:
            database.close()

    def decisions(self) -> list[tuple[str, str]]:
        """Action and reason of all decisions, in order."""
        return self._rows("d.action, d.reason", "decisions d", "d.rowid")  # type: ignore[return-value]

    def reasons(self) -> list[str]:
        return [reason for _, reason in self.decisions()]

    def shown(self) -> int:
        """How many suggestions were sent; one that is typed along is the same."""
        return sum(action == "show" and reason != "typed_along" for action, reason in self.decisions())

    def texts(self) -> list[str | None]:
        """What was logged of the text before the cursor, for every decision; None: no text."""
        return [row[0] for row in self._rows("c.prefix", "decisions d", "d.rowid")]

    def outcomes(self) -> list[tuple[str, str, str, int]]:
        """Kind, evidence, detail and accepted characters of every outcome, in order."""
        columns = "o.kind, o.evidence, o.detail, o.accepted_chars"
        return self._rows(columns, "outcomes o JOIN decisions d ON d.id = o.decision_id", "o.rowid")  # type: ignore[return-value]
