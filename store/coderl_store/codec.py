"""One record ↔ one line of JSON: the format of the spool and of the ingest endpoint.

    {"record":"outcome","schema":1,"fields":{"id":"…","at":"2026-11-20T09:00:00+00:00", …}}

Everything is driven by the fields of the dataclass: a new field needs no code here, and a line written before the field existed
is read with its default. Lines are strict JSON (no NaN, no infinity), times are ISO 8601 in UTC, numbers come back bit for bit.

Covered: every record of `coderl_store.records`; unknown fields are ignored, unknown record types and later schema versions are
refused. A sentence of refusal never quotes a value, which might be code. What a database cannot hold, a lone surrogate (editors
do send halves of characters) or NUL, becomes U+FFFD, one character for one. Not covered: whether the values make sense together
(an outcome without its suggestion is a valid line).

A team's server reads and writes some thousand records a second, so the usual values have short cuts: orjson in place of `json`,
and plain types that pass as they are. What a short cut does not take goes the long way, which alone says what is wrong.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from functools import cache
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import orjson

from .errors import RecordError
from .records import RECORD_TYPES, Record

SCHEMA_VERSION = 1
"""Raised only when old readers would misread a line; a new field does not raise it."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SHORTEST_INT, _LONGEST_INT = -(2**63), 2**63 - 1


class Kind(StrEnum):
    """What a column that holds a field must be able to hold."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    TIME = "time"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Converter:
    """Both directions of one type. `plain` and `value` raise `RecordError` on what they cannot hold."""

    kind: Kind
    plain: Callable[[Any], Any]
    """Python value → what `json` can write."""
    value: Callable[[Any], Any]
    """What `json` read → Python value."""
    optional: bool = False
    same: Callable[[Collection[Any]], bool] = lambda values: False
    """True where `plain` and `value` would both hand back each of these values as it is. A short cut: False is always right."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a record type."""

    name: str
    converter: Converter
    required: bool
    """True where the dataclass has no default."""


def field_specs(record_type: type[Any]) -> tuple[FieldSpec, ...]:
    """The fields of a dataclass in their order, with their converters."""
    return _field_specs(record_type)  # type: ignore[arg-type]  # mypy looks for __hash__ on the instances, not on the class


@cache
def _field_specs(record_type: type[Any]) -> tuple[FieldSpec, ...]:
    hints = get_type_hints(record_type)
    return tuple(
        FieldSpec(f.name, _converter(hints[f.name]), f.default is MISSING and f.default_factory is MISSING)
        for f in fields(record_type)
    )


def record_name(record_type: type[Record]) -> str:
    """The tag of a record type in a line, for example `outcome`."""
    return record_type.__name__.lower()


def encode(record: Record) -> str:
    """The record as one line of JSON without the newline. Raises `RecordError` on NaN, infinity, a time without zone."""
    return orjson.dumps({"record": record_name(type(record)), "schema": SCHEMA_VERSION, "fields": to_plain(record)}).decode()


def decode(line: str) -> Record:
    """The record of a line. Raises `RecordError` with one sentence on anything else."""
    content = _content(line)
    if not isinstance(content, dict) or not isinstance(content.get("fields"), dict):
        raise RecordError("The line is JSON but not a record: it needs the keys record, schema and fields.")
    schema = content.get("schema")
    if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:
        said = f"schema version {schema}" if type(schema) is int and abs(schema) < 1000 else "no schema version"
        raise RecordError(f"The line has {said}; this version of CodeRL reads 1 to {SCHEMA_VERSION}.")
    record_type = _types_by_name().get(str(content.get("record")))
    if record_type is None:
        raise RecordError(f"The line holds an unknown record type; known are {', '.join(_types_by_name())}.")
    record: Record = from_plain(record_type, content["fields"])
    return record


def to_plain(record: Any) -> dict[str, Any]:
    """Field name → JSON value, for a record or a dataclass inside one. Raises `RecordError`."""
    plain: dict[str, Any] = {}
    name = ""
    try:
        for name, convert in _writers(type(record)):  # type: ignore[arg-type]  # as in `field_specs`
            plain[name] = convert(getattr(record, name))
    except RecordError as error:
        raise RecordError(f"{type(record).__name__}.{name}: {error}") from error
    return plain


def from_plain(record_type: type[Any], plain: Mapping[str, Any]) -> Any:
    """The record whose fields are the JSON values of `plain`. Unknown names are ignored. Raises `RecordError`."""
    values: dict[str, Any] = {}
    name = ""
    try:
        for name, convert, required in _readers(record_type):  # type: ignore[arg-type]
            if name in plain:
                values[name] = convert(plain[name])
            elif required:
                break
        else:
            return record_type(**values)
    except RecordError as error:
        raise RecordError(f"{record_type.__name__}.{name}: {error}") from error
    raise RecordError(f"{record_type.__name__} lacks the field {name}.")


@cache
def _writers(record_type: type[Any]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    return tuple((spec.name, spec.converter.plain) for spec in field_specs(record_type))


@cache
def _readers(record_type: type[Any]) -> tuple[tuple[str, Callable[[Any], Any], bool], ...]:
    return tuple((spec.name, spec.converter.value, spec.required) for spec in field_specs(record_type))


def _content(line: str) -> Any:
    """What the JSON of a line says. Raises `RecordError`."""
    try:
        return orjson.loads(line)
    except ValueError:  # half a character as `\ud83d`, which is valid JSON, or no JSON at all
        pass
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"The line is not valid JSON ({error}).") from error


@cache
def _types_by_name() -> Mapping[str, type[Record]]:
    return types.MappingProxyType({record_name(record_type): record_type for record_type in RECORD_TYPES})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _converter(hint: Any) -> Converter:
    """The converter of a type hint. Raises `TypeError` for a hint nobody taught it (a bug, found by the tests)."""
    scalar = {str: _TEXT, int: _INTEGER, float: _REAL, bool: _BOOLEAN, datetime: _TIME}.get(hint)
    if scalar is not None:
        return scalar
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not types.NoneType]
        optional = len(inner) < len(arguments)
        return _optional(_converter(inner[0])) if optional and len(inner) == 1 else _scalar_union(inner, optional)
    if origin is tuple:
        return _sequence(_converter(arguments[0]))
    if origin is Mapping:
        return _mapping(_converter(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enumeration(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return Converter(Kind.JSON, to_plain, lambda plain: from_plain(hint, _expect(plain, dict, "an object")))
    raise TypeError(f"No converter for {hint!r}.")


def _expect(value: Any, expected: type | tuple[type, ...], name: str) -> Any:
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise RecordError(f"expected {name}, not {type(value).__name__}.")
    return value


def _text(value: Any) -> str:
    if type(value) is str and value.isascii() and "\0" not in value:
        return value
    text: str = _expect(value, str, "text")
    return _UNSTORABLE.sub("\ufffd", text)


def _integer(value: Any) -> int:
    if type(value) is int and _SHORTEST_INT <= value <= _LONGEST_INT:
        return value
    number: int = _expect(value, int, "a whole number")
    if not _SHORTEST_INT <= number <= _LONGEST_INT:
        raise RecordError("the whole number does not fit in 64 bits.")
    return number


def _real(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    try:
        number = float(_expect(value, (int, float), "a number"))
    except OverflowError as error:
        raise RecordError("the number is out of range.") from error
    if not math.isfinite(number):
        raise RecordError(f"{number} is not a finite number (what is not known is null).")
    return number


def _time_text(value: Any) -> str:
    moment: datetime = _expect(value, datetime, "a time")
    return _in_utc(moment).isoformat()


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):  # a database row holds the time itself
        return value
    try:
        moment = datetime.fromisoformat(_expect(value, str, "an ISO 8601 time"))
    except ValueError as error:
        raise RecordError("the text is not an ISO 8601 time.") from error
    return _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise RecordError("the time has no time zone.")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise RecordError("the time is out of range.") from error


def _boolean(value: Any) -> bool:
    return bool(_expect(value, bool, "true or false"))


def _enumeration(enum: type[Enum]) -> Converter:
    members = {member.value: member for member in enum}

    def value(text: Any) -> Enum:
        found = members.get(text) if type(text) is str else None
        if found is not None:
            return found
        try:
            return enum(text)
        except ValueError as error:
            raise RecordError(f"the value is not one of {', '.join(str(member.value) for member in enum)}.") from error

    def plain(member: Any) -> Any:
        return member.value if type(member) is enum else enum(member).value

    return Converter(Kind.TEXT, plain, value)


def _all_real(values: Collection[Any]) -> bool:
    return set(map(type, values)) <= {float} and all(map(math.isfinite, values))


_TEXT = Converter(Kind.TEXT, _text, _text)
_INTEGER = Converter(Kind.INTEGER, _integer, _integer)
_REAL = Converter(Kind.REAL, _real, _real, same=_all_real)
_BOOLEAN = Converter(Kind.JSON, _boolean, _boolean)
_TIME = Converter(Kind.TIME, _time_text, _time)


def _optional(inner: Converter) -> Converter:
    return Converter(
        inner.kind,
        lambda value: None if value is None else inner.plain(value),
        lambda plain: None if plain is None else inner.value(plain),
        optional=True,
        same=lambda values: inner.same([value for value in values if value is not None]),
    )


def _sequence(inner: Converter) -> Converter:
    return Converter(
        Kind.JSON,
        lambda values: list(values) if inner.same(values) else [inner.plain(value) for value in values],
        lambda plain: tuple(
            plain if inner.same(_expect(plain, list, "a list")) else [inner.value(item) for item in plain],
        ),
    )


def _mapping(inner: Converter) -> Converter:
    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        if _all_text(values) and inner.same(values.values()):
            return dict(values)
        return {_text(name): inner.plain(value) for name, value in values.items()}

    def value(plain: Any) -> dict[str, Any]:
        found: dict[str, Any] = _expect(plain, dict, "an object")
        if _all_text(found) and inner.same(found.values()):
            return found
        return {_text(name): inner.value(item) for name, item in found.items()}

    return Converter(Kind.JSON, plain, value)


def _all_text(names: Collection[Any]) -> bool:
    """True where each is text that passes as it is."""
    if set(map(type, names)) <= {str}:
        joined = "".join(names)
        return joined.isascii() and "\0" not in joined
    return False


def _scalar_union(inner: list[Any], optional: bool) -> Converter:
    """`str | int | float | None`: the JSON type tells which one it is, so the value passes as it is."""
    by_type = {hint: _converter(hint) for hint in inner}

    def checked(value: Any) -> Any:
        if value is None and optional:
            return None
        if type(value) not in by_type:
            raise RecordError(f"expected one of {', '.join(hint.__name__ for hint in inner)}, not {type(value).__name__}.")
        return by_type[type(value)].plain(value)

    return Converter(Kind.JSON, checked, checked, optional)
