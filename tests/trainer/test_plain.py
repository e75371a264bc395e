"""Plain data as tagged JSON: what goes in comes out, of the exact types, and nothing else comes in."""

from __future__ import annotations

import collections
import enum
import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.plain import DEPTH, NotPlain, build, check, decode, encode, parse

numbers = st.integers() | st.floats() | st.complex_numbers()
hashable = st.recursive(
    st.none() | st.booleans() | numbers | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
values = st.recursive(
    hashable | st.builds(range, st.integers(-9, 9), st.integers(-9, 9)),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=20,
)


def shape(value: Any) -> str:
    """The value with its types, NaN and the sign of zero told apart, and sets in one order."""
    name = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{name}({', '.join(map(shape, value))})"
    if isinstance(value, dict):
        return f"{name}({', '.join(f'{shape(key)}: {shape(one)}' for key, one in value.items())})"
    if isinstance(value, set | frozenset):
        return f"{name}({', '.join(sorted(map(shape, value)))})"
    return f"{name}({value!r})"


def same(one: Any, other: Any) -> bool:
    return shape(one) == shape(other)


@given(values)
def test_what_goes_in_comes_out(value: Any) -> None:
    text = encode(value)
    assert text.isascii()
    assert same(decode(text), value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from("ifcbltszdnr"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@given(json_values)
def test_any_other_json_is_refused_or_is_plain(value: Any) -> None:
    try:
        made = decode(json.dumps(value))
    except NotPlain:
        return
    if "iterator" not in repr(made):
        assert same(decode(encode(made)), made)


class Sly(list):  # type: ignore[type-arg]
    __eq__ = lambda self, other: True  # noqa: E731
    __iter__ = lambda self: iter(["sly"])  # noqa: E731
    __len__ = lambda self: 99  # noqa: E731


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Sly([1]), [1]),
        (Colour.RED, 3),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.namedtuple("Point", "x y")(1, 2), (1, 2)),
        (type("Text", (str,), {"__str__": lambda self: "sly"})("a"), "a"),
        (type("Real", (float,), {"hex": lambda self: "sly"})(1.5), 1.5),
    ],
)
def test_a_subclass_is_written_as_its_base(value: Any, plain: Any) -> None:
    assert same(decode(encode(value)), plain)


def test_iterators_come_out_as_iterators_of_the_same_values() -> None:
    for value in (map(str, [1, 2]), (str(n) for n in (1, 2)), iter(["1", "2"])):
        made = decode(encode(value))
        assert made != ["1", "2"]
        assert list(made) == ["1", "2"]


@pytest.mark.parametrize(
    "value", [object(), len, lambda: 0, {"a": {1: object()}}, ValueError("x"), type, math, memoryview(b"x"), NotImplemented]
)
def test_other_things_are_refused(value: Any) -> None:
    with pytest.raises(NotPlain, match="no plain data"):
        encode(value)


def test_data_is_bounded() -> None:
    with pytest.raises(NotPlain, match="more than 100 bytes"):
        encode("x" * 200, 100)
    with pytest.raises(NotPlain, match="more than"):
        encode(itertools.count(), 10_000)
    inside: list[Any] = []
    inside.append(inside)
    with pytest.raises(NotPlain, match="nested"):
        encode(inside)
    deep: Any = 0
    for _ in range(DEPTH):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(NotPlain):
        encode([deep])


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "1.5", "[]", "NaN", '["x",1]', '[["l"]]', '["i",1]', '["i","zz"]', '["f","x"]', '["s",["l"]]', '["d",1]'),
        *('["r",1,2,0]', '["r",1,2]', '["c","1"]', '["b","0"]', "[" * 100_000, '["l",' * 70 + "1" + "]" * 70),
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(NotPlain):
        decode(text)


def test_a_set_made_to_be_slow_is_not_built_while_it_is_checked() -> None:
    text = encode([n * ((1 << 61) - 1) for n in range(1, 20_000)]).replace('"l"', '"s"', 1)
    check(json.loads(text))
    assert build(parse('["s",1,1,2]')) == {1, 2}
