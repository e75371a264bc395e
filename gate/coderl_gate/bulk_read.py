"""A log of a database as a data set; long ones by all cores.

Each page is read, filtered and turned into numbers by itself, so several processes can share the work and only numbers come
back. They are put together in the order of the log: the data set is the same, whoever read it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from typing import Final

from sqlalchemy import Engine

from coderl_store.columns import Page, read_page
from coderl_store.dialect import open_engine
from coderl_store.errors import DatabaseError
from coderl_store.repository import Repository

from .dataset import Dataset, Part, Selection, collect, dataset_of, judge, merged

MANY_PAGES: Final = 5
"""From so many pages on it pays to start processes (a second each)."""


def collect_log(repository: Repository, pages: Sequence[Page], selection: Selection) -> Dataset:
    """The judged suggestions of these pages. Raises as `dataset.collect`, and `DatabaseError`."""
    workers = min(os.cpu_count() or 1, len(pages))
    if len(pages) < MANY_PAGES or workers < 2:
        return collect(map(repository.page, pages), selection)
    url = repository.engine.url.render_as_string(hide_password=False)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            return dataset_of(merged(_parts(pool, url, pages, selection, 2 * workers)))
        except BrokenProcessPool as error:
            raise DatabaseError("A process that reads the log was killed: close other programs, or read less.") from error


def _parts(pool: ProcessPoolExecutor, url: str, pages: Sequence[Page], selection: Selection, ahead: int) -> Iterator[Part]:
    """The parts in the order of the pages, with at most `ahead` under way or waiting to be taken."""
    waiting: deque[Future[Part]] = deque()
    for page in pages:
        waiting.append(pool.submit(_part, url, page, selection))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _part(url: str, page: Page, selection: Selection) -> Part:
    """In a process of its own: one page. Ids are unique in a database, so none of an earlier page can come again."""
    return judge(read_page(_engine(url), page), selection, set())


@cache
def _engine(url: str) -> Engine:
    return open_engine(url)
