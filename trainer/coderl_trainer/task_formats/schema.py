"""The JSON schema of a task, and the part of JSON Schema (draft 2020-12) that it needs. Pure but for reading the schema.

Covered: `type` (object, array, string), `enum`, `required`, `anyOf` of `required`, `properties`, `additionalProperties`,
`items`, `minLength`. Not covered is everything else; a schema that uses another keyword is refused, so that none is passed over
in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

_TYPES: Mapping[str, type] = MappingProxyType({"object": dict, "array": list, "string": str})
_CHECKED = ("type", "enum", "required", "anyOf", "properties", "additionalProperties", "items", "minLength")
_SAID = ("title", "description")
_KNOWN = frozenset((*_CHECKED, *_SAID))


def task_schema() -> dict[str, Any]:
    """The schema of one line of our own JSON Lines."""
    schema: dict[str, Any] = json.loads(files(__package__).joinpath("task.schema.json").read_text(encoding="utf-8"))
    return schema


def faults(value: Any, schema: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """What is wrong with a value, one phrase each; nothing where it fits. Raises `ValueError` for a schema it cannot read."""
    if unknown := set(schema) - _KNOWN:
        raise ValueError(f"The schema uses {', '.join(sorted(unknown))}, which is not read here.")
    shown = f"`{name}`" if name else "it"
    if "type" in schema and not isinstance(value, _TYPES[schema["type"]]):
        yield f"{shown} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{shown} is {value!r}, not one of {', '.join(schema['enum'])}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{shown} is empty"
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from faults(item, schema["items"], f"{name}[{index}]")
    if isinstance(value, dict):
        yield from _object_faults(value, schema, name)


def _object_faults(value: Mapping[str, Any], schema: Mapping[str, Any], name: str) -> Iterator[str]:
    where = f" in `{name}`" if name else ""
    for key in schema.get("required", ()):
        if key not in value:
            yield f"`{key}` is missing{where}"
    choices = [one["required"] for one in schema.get("anyOf", ())]
    if choices and not any(all(key in value for key in keys) for keys in choices):
        yield f"it needs one of {', '.join(f'`{key}`' for keys in choices for key in keys)}{where}"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        inner = f"{name}.{key}" if name else key
        if key in properties:
            yield from faults(item, properties[key], inner)
        elif others is False:
            yield f"`{inner}` is no key of a task"
        elif isinstance(others, Mapping):
            yield from faults(item, others, inner)
