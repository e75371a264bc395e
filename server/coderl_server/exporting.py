"""`coderl export-log OUT`: the joined log as Parquet partitions, for calibration on a cluster and for one's own analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_gate import partitions
from coderl_gate.errors import DataError
from coderl_store.home import StoreSettings
from coderl_store.repository import Repository

from .errors import InputError
from .replaying import moment_of, origins_of


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    export: partitions.Export

    def to_json(self) -> dict[str, Any]:
        """The manifest, and where it lies."""
        return {**self.export.to_json(), "folder": str(self.export.folder)}

    def render(self, console: Any) -> None:
        """One sentence."""
        console.print(
            f"{self.export.rows} requests in {len(self.export.partitions)} partitions in {self.export.folder}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def export_log(
    out: Path,
    database: str | None = None,
    origins: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    partition_rows: int = partitions.PARTITION_ROWS,
) -> Exported:
    """Write the log into the new folder `out`. Raises `InputError` where there is nothing to write or it cannot be written."""
    chosen, first, last = origins_of(origins), moment_of(since), moment_of(until)
    repository = Repository(StoreSettings.from_environment(database).database_url)
    about = {"origins": sorted(chosen), "since": since, "until": until}
    try:
        batches = repository.columns(origins=chosen, since=first, until=last, batch=min(20_000, partition_rows))
        export = partitions.write(batches, out, about, partition_rows)
    except DataError as error:
        raise InputError(str(error)) from error
    finally:
        repository.close()
    return Exported(export)
