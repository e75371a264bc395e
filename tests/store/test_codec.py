from __future__ import annotations

import dataclasses
import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_store.codec import decode, encode
from coderl_store.errors import RecordError
from coderl_store.records import RECORD_TYPES, Context, Origin, Record, Session, Survival, Trigger

numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))])
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28), timezones=zones)
scalars = st.one_of(st.none(), st.text(), integers, numbers)

for type_, strategy in ((float, numbers), (int, integers), (datetime, times)):
    st.register_type_strategy(type_, strategy)


def of_type(record_type: type[Any]) -> st.SearchStrategy[Any]:
    """Any record of the type; the two mapping fields are told apart by name, all else comes from the type hints."""
    special = {"features": st.dictionaries(st.text(), st.none() | numbers), "data": st.dictionaries(st.text(), scalars)}
    names = {field.name for field in dataclasses.fields(record_type)}
    return st.builds(record_type, **{name: special.get(name, ...) for name in names})  # ... = infer, defaults included


records: st.SearchStrategy[Record] = st.one_of([of_type(record_type) for record_type in RECORD_TYPES])


def stored(value: Any) -> Any:
    """What a value becomes: characters that no database can hold become U+FFFD."""
    if isinstance(value, str) and not hasattr(value, "value"):
        return re.sub("[\0\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, tuple):
        return tuple(map(stored, value))
    if isinstance(value, dict):
        return {stored(key): stored(item) for key, item in value.items()}
    return value


@given(records)
def test_a_record_survives_the_round_trip(record: Record) -> None:
    expected = dataclasses.replace(
        record, **{field.name: stored(getattr(record, field.name)) for field in dataclasses.fields(record)}
    )
    line = encode(record)
    assert "\n" not in line
    assert decode(line) == expected
    assert encode(decode(line)) == line


@given(st.text())
def test_lone_surrogates_are_replaced_one_for_one(text: str) -> None:
    text = "\ud83d" + text
    session = dataclasses.replace(_session(), client_name=text)
    kept = decode(encode(session))
    assert isinstance(kept, Session)
    assert len(kept.client_name) == len(text)
    kept.client_name.encode()


@given(records)
def test_what_another_writer_of_json_makes_of_a_record_is_read_the_same(record: Record) -> None:
    """Escaped characters, halves of them too, spaces, exponents: valid JSON that goes the long way."""
    line = encode(record)
    content = json.loads(line)
    assert decode(json.dumps(content, indent=1)) == decode(line)
    content["fields"]["id"] = f"\ud83d{content['fields']['id']}"
    assert decode(json.dumps(content)) == dataclasses.replace(decode(line), id=f"\ufffd{decode(line).id}")


@given(st.lists(st.one_of(numbers, integers, st.booleans(), st.none(), st.text(), st.just(math.inf), st.just(math.nan))))
def test_many_values_are_judged_as_each_alone(values: list[Any]) -> None:
    mapping = {str(index): value for index, value in enumerate(values)}
    line = encode(dataclasses.replace(_context(), features={}))
    alone = all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values)
    content = json.loads(line)
    content["fields"]["features"] = mapping
    if not alone:
        with pytest.raises(RecordError):
            decode(json.dumps(content))
        return
    read = decode(json.dumps(content))
    assert isinstance(read, Context)
    assert all(value is None or type(value) is float for value in read.features.values())
    assert read.features == {name: None if value is None else float(value) for name, value in mapping.items()}


def test_times_are_written_in_utc() -> None:
    local = datetime(2026, 11, 20, 14, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert json.loads(encode(dataclasses.replace(_session(), at=local)))["fields"]["at"] == "2026-11-20T09:00:00+00:00"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_by_name(bad: float) -> None:
    with pytest.raises(RecordError, match=r"Survival\.share: .* not a finite number"):
        encode(dataclasses.replace(_survival(), share=bad))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(RecordError, match="no time zone"):
        encode(dataclasses.replace(_survival(), at=datetime(2026, 1, 1)))


def test_an_integer_beyond_64_bits_is_refused() -> None:
    with pytest.raises(RecordError, match="64 bits"):
        encode(dataclasses.replace(_session(), seed=2**63))


def test_unknown_fields_are_ignored_and_missing_ones_get_their_default() -> None:
    line = json.loads(encode(_session()))
    line["fields"]["invented_later"] = {"deep": [1]}
    del line["fields"]["client_name"]
    assert decode(json.dumps(line)) == dataclasses.replace(_session(), client_name="")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"record":"survival","schema":1,"fields":{"share":NaN}}', "not valid JSON"),
        ("[]", "not a record"),
        ('{"record":"survival","schema":1}', "not a record"),
        ('{"record":"poem","schema":1,"fields":{}}', "unknown record type; known are session"),
        ('{"record":"survival","schema":2,"fields":{}}', "schema version 2"),
        ('{"record":"survival","fields":{}}', "no schema version"),
        ('{"record":"survival","schema":true,"fields":{}}', "no schema version"),
        ('{"record":"survival","schema":1,"fields":{}}', "lacks the field id"),
    ],
)
def test_a_foreign_line_is_refused_with_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(RecordError, match=sentence):
        decode(line)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share", "much"),
        ("share", True),
        ("share", None),
        ("share", 10**400),
        ("at", "yesterday"),
        ("at", "2026-01-01T00:00:00"),
        ("at", 7),
        ("at", "9999-12-31T23:59:59-10:00"),
        ("id", 5),
    ],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: object) -> None:
    line = json.loads(encode(_survival()))
    line["fields"][field] = value
    with pytest.raises(RecordError, match=rf"Survival\.{field}: "):
        decode(json.dumps(line))


def test_an_unknown_enum_member_is_refused_with_the_choices() -> None:
    session = json.loads(encode(_session()))
    session["fields"]["origin"] = "moon"
    with pytest.raises(RecordError, match="the value is not one of editor, simulated, imported"):
        decode(json.dumps(session))


SECRET = "api_key = 'hush'"


@pytest.mark.parametrize(
    "change",
    [
        {"record": SECRET},
        {"schema": SECRET},
        *({"fields": {name: SECRET}} for name in ("at", "origin", "seed")),
        *({"fields": {name: [SECRET]}} for name in ("id", "at", "origin", "user_key")),
    ],
)
def test_a_refusal_never_quotes_what_it_refuses(change: dict[str, Any]) -> None:
    line = json.loads(encode(_session()))
    line["fields"] |= change.pop("fields", {})
    with pytest.raises(RecordError) as refusal:
        decode(json.dumps(line | change))
    assert "hush" not in str(refusal.value)


def _survival() -> Survival:
    return Survival("i", datetime(2026, 11, 20, tzinfo=UTC), "s", "g", 15.0, 1.0)


def _context() -> Context:
    return Context("c", datetime(2026, 11, 20, tzinfo=UTC), "s", "python", "key", 1, 2, Trigger.AUTOMATIC)


def _session() -> Session:
    return Session("i", datetime(2026, 11, 20, tzinfo=UTC), Origin.EDITOR, "u", client_name="nvim")
