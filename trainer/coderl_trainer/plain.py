"""Plain data as tagged JSON: what may pass between a jailed program and the judge.

Values: None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex, range, and iterators by what they yield.
A subclass of one of these is written as its base, by the base's own methods, so that nothing an object says of itself
(`__eq__`, `__iter__` …) comes through. `decode` makes objects of exactly these types and no others.

    null, true, false, "text", 7          None, True, False, str, an int below 2**53 in size
    ["i", "-ff"]                          any other int, hexadecimal
    ["f", "0x1.8p+1"]                     float, as float.hex writes it; nan, inf, -inf
    ["c", "0x…", "0x…"]                   complex
    ["b", "00ff"]                         bytes
    ["l", …] ["t", …] ["s", …] ["z", …]   list, tuple, set, frozenset
    ["d", key, value, key, value …]       dict, in its order
    ["r", start, stop, step]              range
    ["n", …]                              an iterator over these values

This file also runs inside the jail, at the start of every program: there it imports next to nothing, for `json` or `typing`
alone take longer to load than a short program to run.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

try:
    from _json import encode_basestring_ascii as _quoted
except ImportError:  # an interpreter without the accelerator
    from json.encoder import encode_basestring_ascii as _quoted

MOST_BYTES = 1 << 20
DEPTH = 60
_SMALL = 1 << 53
_RUNS = (("l", list), ("t", tuple), ("s", set), ("z", frozenset))


class NotPlain(ValueError):
    """The value cannot be written: another type, too deep, or too large."""


def encode(value: object, most_bytes: int = MOST_BYTES) -> str:
    """ASCII JSON of a value. Raises `NotPlain`; whatever an iterator raises comes through."""
    out: list[str] = []
    left = most_bytes

    def put(text: str) -> None:
        nonlocal left
        left -= len(text) + 1
        if left < 0:
            raise NotPlain(f"more than {most_bytes} bytes of data")
        out.append(text)

    _write(value, put, DEPTH)
    return "".join(out)


def _write(value: Any, put: Callable[[str], None], depth: int) -> None:
    if value is None:
        put("null")
    elif value is True or value is False:
        put("true" if value else "false")
    elif isinstance(value, str):
        put(_quoted(str.__str__(value)))
    elif isinstance(value, int):
        small = -_SMALL < int.__add__(value, 0) < _SMALL
        put(int.__repr__(value) if small else f'["i","{int.__format__(value, "x")}"]')
    elif isinstance(value, float):
        put(f'["f","{float.hex(value)}"]')
    elif isinstance(value, complex):
        plain = complex.__add__(value, 0) if type(value) is not complex else value
        put(f'["c","{plain.real.hex()}","{plain.imag.hex()}"]')
    elif isinstance(value, bytes):
        put(f'["b","{bytes.hex(value)}"]')
    elif isinstance(value, range):
        _write_run("r", (value.start, value.stop, value.step), put, depth)
    elif isinstance(value, dict):
        _write_run("d", (part for pair in dict.items(value) for part in pair), put, depth)
    else:
        for tag, kind in _RUNS:
            if isinstance(value, kind):
                _write_run(tag, _iterated(kind, value), put, depth)
                return
        if not hasattr(type(value), "__next__"):
            raise NotPlain(f"a {type(value).__name__} is no plain data")
        _write_run("n", value, put, depth)


def _iterated(kind: Any, value: Any) -> Any:
    """By the base's own method, whatever a subclass says."""
    return kind.__iter__(value)


def _write_run(tag: str, values: Any, put: Callable[[str], None], depth: int) -> None:
    if not depth:
        raise NotPlain("data nested too deep, or in itself")
    put(f'["{tag}"')
    for value in values:
        put(",")
        _write(value, put, depth - 1)
    put("]")


def check(value: Any) -> None:
    """Whether parsed JSON is tagged data, in time linear in its size: no set or dict is built. Raises `NotPlain`."""
    waiting: list[tuple[Any, int]] = [(value, DEPTH + 1)]
    while waiting:
        item, depth = waiting.pop()
        if item is None or type(item) in (bool, int, str):
            continue
        if type(item) is not list or not item or not depth:
            raise NotPlain("not in the form of plain data")
        tag, parts = item[0], item[1:]
        if tag in ("i", "f", "b", "c"):
            if not all(type(part) is str for part in parts) or len(parts) != (2 if tag == "c" else 1):
                raise NotPlain(f"not in the form of plain data: {tag}")
        elif tag in ("l", "t", "s", "z", "d", "n", "r"):
            if (tag == "d" and len(parts) % 2) or (tag == "r" and len(parts) != 3):
                raise NotPlain(f"not in the form of plain data: {tag}")
            waiting += [(part, depth - 1) for part in parts]
        else:
            raise NotPlain("not in the form of plain data")


def build(value: Any) -> Any:
    """The object that parsed, checked JSON stands for. Raises `NotPlain` where it stands for none."""
    if type(value) is not list:
        return value
    tag, parts = value[0], value[1:]
    try:
        if tag == "i":
            return int(parts[0], 16)
        if tag == "f":
            return float.fromhex(parts[0])
        if tag == "c":
            return complex(float.fromhex(parts[0]), float.fromhex(parts[1]))
        if tag == "b":
            return bytes.fromhex(parts[0])
        made = [build(part) for part in parts]
        if tag == "d":
            return dict(zip(made[::2], made[1::2], strict=True))
        if tag == "r":
            return range(*made)
        return iter(made) if tag == "n" else dict(_RUNS)[tag](made)
    except (ValueError, TypeError, OverflowError) as error:  # a list in a set, no hexadecimal number …
        raise NotPlain(f"not in the form of plain data: {error}") from error


def parse(text: str) -> Any:
    """Tagged JSON, parsed and checked, but not built. Raises `NotPlain`."""
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotPlain("not in the form of plain data: no JSON") from error
    check(value)
    return value


def decode(text: str) -> Any:
    """The value that `encode` wrote; objects of the exact types only. Raises `NotPlain` for any other text."""
    return build(parse(text))
