"""An export holds what the log holds, and says so where it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coderl_gate import partitions
from coderl_gate.catalogue import CONTEXT_NAMES, FEATURE_VERSION, SUGGESTION_NAMES
from coderl_gate.dataset import Dataset, build, collect, columns_of
from coderl_gate.errors import DataError
from coderl_gate.policy import Policy
from coderl_gate.synthetic import World, knowing
from coderl_store.columns import RequestColumns
from coderl_store.repository import LoggedRequest

parquet = pytest.importorskip("pyarrow.parquet")


def log(users: int = 5, per_user: int = 40) -> list[LoggedRequest]:
    """Shown, withheld and skipped requests, one with a broken feature."""
    policy = Policy(0.9, epsilon_skip=0.3, epsilon_withhold=0.3)
    requests = list(World(users=users, requests_per_user=per_user).requests(knowing(), policy))
    index = next(i for i, r in enumerate(requests) if r.outcome is not None)
    context = replace(requests[index].context, features={**requests[index].context.features, CONTEXT_NAMES[0]: float("inf")})
    requests[index] = replace(requests[index], context=context)
    return requests


def batches(requests: list[LoggedRequest], size: int) -> list[RequestColumns]:
    return [columns_of(requests[first : first + size]) for first in range(0, len(requests), size)]


def written(folder: Path, requests: list[LoggedRequest], size: int = 30, partition_rows: int = 60) -> partitions.Export:
    return partitions.write(batches(requests, size), folder, {"origins": ["editor"]}, partition_rows)


def same(one: Dataset, other: Dataset) -> None:
    assert (one.ids, one.skipped, one.data_hash) == (other.ids, other.skipped, other.data_hash)
    for name in ("before", "after", "kept", "weight", "users", "at_s", "reading_s", "decided_s", "waited_s", "edited"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(("size", "partition_rows"), [(7, 20), (50, 50), (1000, 1000)])
def test_an_export_gives_the_dataset_of_the_log(size: int, partition_rows: int, tmp_path: Path) -> None:
    requests = log()
    export = written(tmp_path / "out", requests, size, partition_rows)
    assert partitions.open_export(tmp_path / "out") == export
    assert export.rows == len(requests) == sum(len(columns) for columns in partitions.read(export.paths))
    found = collect(partitions.read(export.paths))
    assert found.skipped["with a feature that is not a finite number"] == 1
    same(found, build(requests))


def test_one_row_per_request_and_a_column_per_feature(tmp_path: Path) -> None:
    requests = log()
    export = written(tmp_path / "out", requests)
    assert len(export.partitions) == 4
    table = parquet.read_table(export.paths[0])
    assert table.num_rows == 60
    wanted = {f"before.{name}" for name in CONTEXT_NAMES} | {f"after.{name}" for name in SUGGESTION_NAMES}
    assert wanted < set(table.column_names)
    assert table.schema.metadata[b"coderl.feature_version"] == str(FEATURE_VERSION).encode()
    assert table.schema.metadata[b"coderl.schema_version"] == str(partitions.EXPORT_VERSION).encode()
    skipped = [r.suggestion is None for r in requests[:60]]
    assert [value is None for value in table["suggestion_id"].to_pylist()] == skipped
    assert [value is None for value in table["after.s_chars"].to_pylist()] == skipped
    assert set(table["before.rest_blank"].to_pylist()) == {None, float("inf")}  # not known; infinite in the broken row
    assert table["before.line_trimmed_chars"].to_pylist()[5] == requests[5].context.features["line_trimmed_chars"]


def test_an_empty_log_is_an_export_without_rows(tmp_path: Path) -> None:
    export = partitions.write([columns_of([])], tmp_path / "out", {})
    assert (export.rows, len(export.partitions)) == (0, 1)
    with pytest.raises(DataError, match="The log is empty"):
        collect(partitions.read(partitions.open_export(tmp_path / "out").paths))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def breaks() -> object:
        yield columns_of(log())
        raise DataError("the log is gone")

    with pytest.raises(DataError, match="the log is gone"):
        partitions.write(breaks(), tmp_path / "out", {})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    written(tmp_path / "out", log())
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        written(tmp_path / "out", log(users=2))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        written(tmp_path / "file", log(users=2))
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert written(tmp_path / "empty", log()).rows == 200


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot be written"):
        written(tmp_path / "file" / "out", log())


def _edited(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "holds no export"),
    "not JSON": (lambda folder: (folder / "manifest.json").write_text("{oops"), "cannot be read"),
    "not an object": (lambda folder: (folder / "manifest.json").write_text("[]"), "cannot be read"),
    "from the future": (lambda folder: _edited(folder, schema_version=99), "schema version 99"),
    "other features": (lambda folder: _edited(folder, feature_version=0), "feature version 0"),
    "a partition is gone": (lambda folder: (folder / "part-00001.parquet").unlink(), "lacks part-00001.parquet"),
    "a partition is cut": (lambda folder: (folder / "part-00001.parquet").write_bytes(b"PAR1"), "part-00001.parquet cannot"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_export_is_one_sentence(damage: str, tmp_path: Path) -> None:
    do, sentence = DAMAGE[damage]
    written(tmp_path / "out", log())
    do(tmp_path / "out")
    with pytest.raises(DataError, match=sentence) as caught:
        collect(partitions.read(partitions.open_export(tmp_path / "out").paths))
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'coderl\[scale\]'"):
        partitions.write([], tmp_path / "out", {})
