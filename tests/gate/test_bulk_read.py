"""Whoever reads the log, the data set is the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from coderl_gate import bulk_read
from coderl_gate.dataset import Dataset, Selection, collect
from coderl_gate.errors import DataError
from coderl_gate.synthetic import World
from coderl_store.errors import DatabaseError
from coderl_store.records import Record
from coderl_store.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    opened = Repository(f"sqlite:///{tmp_path / 'log.db'}")
    records: dict[str, Record] = {}
    for r in World(users=5, requests_per_user=40).requests():
        for record in (r.session, r.context, r.suggestion, r.outcome, *r.survival):
            if record is not None:
                records[f"{type(record).__name__}{record.id}"] = record
        records[f"Decision{r.decision.id}"] = r.decision
    opened.append(records.values())
    yield opened
    opened.close()


def test_several_processes_make_the_dataset_of_one(repository: Repository) -> None:
    pages = repository.pages(batch=30)
    assert len(pages) >= bulk_read.MANY_PAGES
    found, alone = bulk_read.collect_log(repository, pages, Selection()), collect(repository.columns())
    for item in fields(Dataset):
        ours, theirs = getattr(found, item.name), getattr(alone, item.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=item.name)
        else:
            assert ours == theirs, item.name


def test_what_is_wrong_is_said_alike(repository: Repository) -> None:
    with pytest.raises(DataError, match="None of the"):
        bulk_read.collect_log(repository, repository.pages(batch=30), Selection(evidence=frozenset()))
    with pytest.raises(DataError, match="The log is empty"):
        bulk_read.collect_log(repository, repository.pages(origins=()), Selection())


def _die(*_: object) -> None:
    os._exit(1)


def test_a_reader_that_is_killed_is_a_sentence(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_read, "_part", _die)
    monkeypatch.setattr(bulk_read, "ProcessPoolExecutor", lambda *_: ProcessPoolExecutor(2, get_context("fork")))
    with pytest.raises(DatabaseError, match="was killed"):
        bulk_read.collect_log(repository, repository.pages(batch=30), Selection())
