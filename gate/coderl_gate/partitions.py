"""The joined log as Parquet files: one row per request, one column per feature, in partitions that can be read alone.

    OUT/part-00000.parquet …     rows by (at, id) of their decisions, in groups of one batch
    OUT/manifest.json            written last: what is in it; a folder without it is not a whole export

Columns are those of `RequestColumns`, with `t_wait_s` for the costs and, for the features, `before.NAME` and `after.NAME` as
doubles. Missing is null. All features of a row are infinite where one of them was not a finite number, so that a reader leaves
the row out for the same reason. No text and no code is exported, whatever the privacy level of the log.

Needs the extra `scale` (pyarrow). Memory is constant: one batch.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coderl_store.columns import RequestColumns

from .bulk import feature_matrix, mapping
from .catalogue import CONTEXT_NAMES, FEATURE_VERSION, SUGGESTION_NAMES
from .errors import DataError

if TYPE_CHECKING:
    import pyarrow

FORMAT: Final = "coderl-log"
EXPORT_VERSION: Final = 1
"""Rises when old readers would misread the files."""
PARTITION_ROWS: Final = 100_000
"""About so many rows per file."""
BEFORE, AFTER = "before.", "after."
_MATRICES: Final = (("context_features", BEFORE, CONTEXT_NAMES), ("suggestion_features", AFTER, SUGGESTION_NAMES))
_TEXTS: Final = frozenset(
    {"decision_id", "session_id", "user_key", "origin", "action", "suggestion_id", "outcome_kind", "evidence"}
)
_WHOLE: Final = frozenset({"context_version", "chars", "lines", "suggestion_version", "accepted_chars"})
_TIMES: Final = frozenset({"decided_at", "outcome_at"})


@dataclass(frozen=True, slots=True)
class Export:
    """What an export holds."""

    folder: Path
    rows: int
    partitions: tuple[str, ...]
    """File names in order."""
    about: Mapping[str, Any]
    """What the writer said of it: origins, period …"""

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        return {
            "format": FORMAT,
            "schema_version": EXPORT_VERSION,
            "feature_version": FEATURE_VERSION,
            "rows": self.rows,
            "partitions": list(self.partitions),
            **self.about,
        }

    @property
    def paths(self) -> tuple[Path, ...]:
        """The partitions' files in order."""
        return tuple(self.folder / name for name in self.partitions)


def write(
    batches: Iterable[RequestColumns], folder: Path, about: Mapping[str, Any], partition_rows: int = PARTITION_ROWS
) -> Export:
    """Write batches into a new folder; it appears whole or not at all. Raises `DataError` where it cannot."""
    _pyarrow()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists already: name a new folder for the export.")
    draft = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        names, rows = _write_parts(batches, draft, partition_rows)
        export = Export(folder, rows, tuple(names), about)
        (draft / "manifest.json").write_text(json.dumps(export.to_json(), indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError as error:
        raise DataError(
            f"The export cannot be written to {folder} ({error.strerror or error}): name another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return export


def _write_parts(batches: Iterable[RequestColumns], folder: Path, partition_rows: int) -> tuple[list[str], int]:
    from pyarrow import parquet

    names: list[str] = []
    total, inside = 0, partition_rows
    writer: parquet.ParquetWriter | None = None
    try:
        for columns in batches:
            if writer is None or (inside >= partition_rows and len(columns)):
                if writer is not None:
                    writer.close()
                names.append(f"part-{len(names):05}.parquet")
                writer, inside = parquet.ParquetWriter(folder / names[-1], _schema(), compression="zstd"), 0
            writer.write_table(_table(columns))
            inside, total = inside + len(columns), total + len(columns)
    finally:
        if writer is not None:
            writer.close()
    return names, total


def open_export(folder: Path) -> Export:
    """An export by its manifest. Raises `DataError` where it is no whole export, or one of another version."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        known = {"format", "schema_version", "feature_version", "rows", "partitions"}
        about = {key: value for key, value in manifest.items() if key not in known}
        export = Export(folder, int(manifest["rows"]), tuple(map(str, manifest["partitions"])), about)
        said = manifest["format"], manifest["schema_version"], manifest["feature_version"]
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no export: make one with coderl export-log.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"The manifest of the export {folder} cannot be read ({error}): export the log again.") from error
    if said != (FORMAT, EXPORT_VERSION, FEATURE_VERSION):
        raise DataError(
            f"The export {folder} has schema version {said[1]} and feature version {said[2]}, this CodeRL reads "
            f"{EXPORT_VERSION} and {FEATURE_VERSION}: export the log again."
        )
    missing = [path.name for path in export.paths if not path.is_file()]
    if missing:
        raise DataError(f"The export {folder} lacks {', '.join(missing)}: export the log again.")
    return export


def read(paths: Iterable[Path]) -> Iterator[RequestColumns]:
    """The batches of these partitions, in order. Raises `DataError` for a file that cannot be read."""
    arrow = _pyarrow()
    from pyarrow import parquet

    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield _columns(file.read_row_group(group))
        except (OSError, KeyError, arrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}): export the log again.") from error


def _schema() -> pyarrow.Schema:
    arrow = _pyarrow()
    columns = []
    for item in fields(RequestColumns):
        matrices = {name: (prefix, names) for name, prefix, names in _MATRICES}
        if item.name in matrices:
            prefix, names = matrices[item.name]
            columns += [(prefix + name, arrow.float64()) for name in names]
        elif item.name == "costs":
            columns.append(("t_wait_s", arrow.float64()))
        elif item.name in _TEXTS:
            columns.append((item.name, arrow.string()))
        elif item.name in _TIMES:
            columns.append((item.name, arrow.timestamp("us", tz="UTC")))
        else:
            columns.append((item.name, arrow.int64() if item.name in _WHOLE else arrow.float64()))
    versions = {"coderl.schema_version": str(EXPORT_VERSION), "coderl.feature_version": str(FEATURE_VERSION)}
    return arrow.schema(columns, metadata=versions)


def _table(columns: RequestColumns) -> pyarrow.Table:
    arrow = _pyarrow()
    made: dict[str, Any] = {
        item.name: getattr(columns, item.name)
        for item in fields(RequestColumns)
        if item.name not in ("costs", *(name for name, _, _ in _MATRICES))
    }
    made["t_wait_s"] = [None if cell is None else mapping(cell).get("t_wait_s") for cell in columns.costs]
    for name, prefix, names in _MATRICES:
        values, damaged = feature_matrix(getattr(columns, name), names)
        values[damaged] = math.inf
        made |= {prefix + feature: arrow.array(values[:, j], from_pandas=True) for j, feature in enumerate(names)}
    return arrow.table({field.name: arrow.array(made[field.name], field.type) for field in _schema()}, schema=_schema())


def _columns(table: pyarrow.Table) -> RequestColumns:
    made: dict[str, Any] = {}
    for item in fields(RequestColumns):
        if item.name == "costs":
            made["costs"] = [None if value is None else {"t_wait_s": value} for value in table["t_wait_s"].to_pylist()]
        elif item.name not in (name for name, _, _ in _MATRICES):
            made[item.name] = table[item.name].to_pylist()
    for name, prefix, names in _MATRICES:
        matrix = np.empty((table.num_rows, len(names)), dtype=np.float64)
        for j, feature in enumerate(names):
            matrix[:, j] = table[prefix + feature].to_numpy()
        made[name] = matrix
    return RequestColumns(**made)


def _pyarrow() -> Any:
    """The library, where the extra is installed. Raises `DataError` where it is not."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"Exports need the extra `scale` ({error}): pip install 'coderl[scale]'.") from error
    return pyarrow
