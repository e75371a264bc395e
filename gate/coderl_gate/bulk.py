"""Columns of very many requests → numbers, without a Python object per request that stays.

What is gathered grows batch by batch and is put in order once, at the end. Features are kept in double precision up to
`EXACT_ROWS` rows, so that small logs come out the same to the last bit whichever way they are read; beyond, in single
precision, because a million rows of a hundred features must fit into memory several times (LightGBM bins them into 255 values
anyway).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from coderl_store.columns import FeatureCell

from .errors import DataError

EXACT_ROWS: Final = 200_000
"""Up to so many rows features are held in double precision."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def feature_matrix(cells: Sequence[FeatureCell], names: Sequence[str]) -> tuple[Floats, Mask]:
    """Features as an array (k, len(names)), missing as NaN; and which rows hold what is neither missing nor finite, (k,).

    Raises `DataError` where a text is not a JSON object.
    """
    try:
        # strict JSON knows neither NaN nor infinity, so every NaN here is a null
        return matrix([orjson.loads(cell) for cell in cells], names), np.zeros(len(cells), dtype=bool)  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):  # a mapping, or what strict JSON refuses: look at every value
        features = [mapping(cell) for cell in cells]
        bad = [not all(map(_sound, row.values())) for row in features]
        return matrix([{} if out else row for row, out in zip(features, bad, strict=True)], names), np.array(bad, dtype=bool)


def _sound(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def mapping(cell: FeatureCell) -> Mapping[str, float | None]:
    """A JSON text as a mapping, nothing as an empty one. Raises `DataError` where the text is not a JSON object.

    Where strict JSON will not do, with Python's own reader, which knows NaN and infinity: a database filled by other hands may
    hold them.
    """
    if not isinstance(cell, str):
        return cell or {}
    try:
        found = orjson.loads(cell)
    except ValueError:
        found = _by_python(cell)
    if not isinstance(found, dict):
        raise DataError("The log holds features that are not a JSON object: restore a backup of the database.")
    return found


def _by_python(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"The log holds features that are not JSON ({error}): restore a backup of the database.") from error


def matrix(features: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> Floats:
    """Feature mappings as an array of shape (n, len(names)); missing is NaN."""
    try:
        rows: list[Any] = list(map(itemgetter(*names), features)) if len(names) > 1 else _by_get(features, names)
    except KeyError:
        rows = _by_get(features, names)
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def _by_get(features: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> list[Any]:
    return [[row.get(name) for name in names] for row in features]


def numbers(values: Iterable[float | None]) -> Floats:
    """Numbers (n,), None as NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def seconds(moments: Iterable[datetime | None]) -> Floats:
    """Seconds since 1970 (n,), None as NaN."""
    return np.array([math.nan if moment is None else moment.timestamp() for moment in moments], dtype=np.float64)


class Gathered:
    """Batches of aligned arrays that become one, in another order, without ever being held twice in whole."""

    def __init__(self) -> None:
        self._batches: list[dict[str, NDArray[Any]]] = []
        self._exact = True
        self.rows = 0

    def add(self, batch: dict[str, NDArray[Any]]) -> None:
        """Append aligned arrays (k, …); every batch has the same names."""
        self._batches.append(batch)
        self.rows += len(next(iter(batch.values())))
        if self._exact and self.rows > EXACT_ROWS:
            self._exact = False
            for earlier in self._batches[:-1]:
                _shrink(earlier)
        if not self._exact:
            _shrink(batch)

    def column(self, name: str) -> NDArray[Any]:
        """One column (n, …) in the order of arrival, with what was gathered left in place."""
        return np.concatenate([batch[name] for batch in self._batches])

    def take(self, name: str, order: NDArray[np.intp]) -> NDArray[Any]:
        """One column (n, …) in the given order of rows; it is gone from here afterwards, batch by batch."""
        parts = [batch.pop(name) for batch in self._batches]
        whole = np.empty((self.rows, *parts[0].shape[1:]), dtype=np.result_type(*parts))
        place = np.empty(self.rows, dtype=np.intp)
        place[order] = np.arange(self.rows)
        done = self.rows
        while parts:
            part = parts.pop()
            whole[place[done - len(part) : done]] = part
            done -= len(part)
        return whole


def _shrink(batch: dict[str, NDArray[Any]]) -> None:
    """Matrices to single precision; single columns stay as they are."""
    for name, values in batch.items():
        if values.ndim == 2 and values.dtype == np.float64:
            batch[name] = values.astype(np.float32)
