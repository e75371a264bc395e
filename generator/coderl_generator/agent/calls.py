"""Calls of tools: what a tool takes, and the reading of what a model wrote. Pure and strict: nothing is guessed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from coderl_generator.errors import MalformedCall

MOST_TEXT_CHARS = 400_000
"""Of one argument."""
_TYPES = MappingProxyType({"string": str, "integer": int, "boolean": bool})
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool."""

    name: str
    type: str
    """`string`, `integer` or `boolean`."""
    doc: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]

    def to_json(self) -> dict[str, Any]:
        """As the field `tools` of OpenAI's chat completions takes it."""
        properties = {one.name: {"type": one.type, "description": one.doc} for one in self.parameters}
        required = [one.name for one in self.parameters if one.required]
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return {"type": "function", "function": {"name": self.name, "description": self.doc, "parameters": schema}}


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call as the model wrote it."""

    id: str
    name: str
    arguments: str
    """JSON, unread."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that there is, with arguments that it takes."""

    id: str
    name: str
    arguments: Mapping[str, Any]


def read_call(raw: RawCall, specs: Sequence[ToolSpec]) -> Call:
    """Raises `MalformedCall` with one sentence that says what to write instead."""
    spec = next((one for one in specs if one.name == raw.name), None)
    if spec is None:
        raise MalformedCall(f"There is no tool {raw.name[:60]!r}. There are: {', '.join(one.name for one in specs)}.")
    try:
        arguments = json.loads(raw.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise MalformedCall(f"The arguments of {spec.name} are no JSON ({error}). Write one JSON object.") from None
    if not isinstance(arguments, dict):
        raise MalformedCall(f"The arguments of {spec.name} have to be one JSON object: {_form_of(spec)}.")
    known = {one.name: one for one in spec.parameters}
    for name, value in arguments.items():
        if name not in known:
            raise MalformedCall(f"{spec.name} takes no argument {name[:60]!r}. Its form is {_form_of(spec)}.")
        wanted = _TYPES[known[name].type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise MalformedCall(f"The argument {name} of {spec.name} has to be of type {known[name].type}.")
        if isinstance(value, str) and len(value) > MOST_TEXT_CHARS:
            raise MalformedCall(f"The argument {name} of {spec.name} is longer than {MOST_TEXT_CHARS} characters.")
    missing = [one.name for one in spec.parameters if one.required and one.name not in arguments]
    if missing:
        raise MalformedCall(f"The call of {spec.name} lacks {', '.join(missing)}. Its form is {_form_of(spec)}.")
    return Call(raw.id, spec.name, arguments)


def _form_of(spec: ToolSpec) -> str:
    parts = [f'"{one.name}": {one.type}' + ("" if one.required else " (may be left out)") for one in spec.parameters]
    return "{" + ", ".join(parts) + "}"


# -- the text protocol --------------------------------------------------------------------------------------------------------


def instructions(specs: Sequence[ToolSpec]) -> str:
    """How a model without tool calls of its own has to write them."""
    tools = "\n".join(f"- {one.name}: {one.doc}\n  arguments: {_form_of(one)}" + _docs_of(one) for one in specs)
    return (
        "You have these tools:\n"
        f"{tools}\n\n"
        "To call one, end your message with exactly this form, and write nothing after it:\n"
        '<tool_call>\n{"name": "TOOL", "arguments": {...}}\n</tool_call>\n'
        "The result comes as the next message. When the task is done, end your message with:\n"
        "<answer>\nwhat you did or found out\n</answer>"
    )


def read_text(text: str, turn: int) -> tuple[str | None, tuple[RawCall, ...]]:
    """The answer or the calls in a message of the text protocol; exactly one of the two. `turn` makes the calls' ids.

    Raises `MalformedCall` where there is neither, both, or something behind.
    """
    calls, answers = list(_CALL.finditer(text)), list(_ANSWER.finditer(text))
    if calls and answers:
        raise MalformedCall(
            "Your message holds a call and an answer. Write one of the two; the result of the call comes first."
        )
    if not calls and not answers:
        if "<tool_call>" in text or "<answer>" in text:
            tag = "tool_call" if "<tool_call>" in text else "answer"
            raise MalformedCall(f"<{tag}> is not closed. End it with </{tag}>.")
        raise MalformedCall(
            "Your message holds neither a call nor an answer. Write "
            '<tool_call>{"name": "TOOL", "arguments": {...}}</tool_call> or <answer>…</answer>.'
        )
    last = (calls or answers)[-1]
    between = any(text[one.end() : two.start()].strip() for one, two in itertools.pairwise(calls))
    if text[last.end() :].strip() or between or len(answers) > 1:
        raise MalformedCall("Write nothing behind a call or an answer: what follows it comes from the tools.")
    if answers:
        return answers[0][1].strip(), ()
    return None, tuple(_raw(one[1], f"call-{turn}-{number}") for number, one in enumerate(calls))


def _raw(body: str, identity: str) -> RawCall:
    form = 'Write <tool_call>{"name": "TOOL", "arguments": {...}}</tool_call>.'
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedCall(f"What stands in <tool_call> is no JSON ({error}). {form}") from None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str) or set(data) - {"name", "arguments"}:
        raise MalformedCall(f"What stands in <tool_call> has to be an object with name and arguments. {form}")
    return RawCall(identity, data["name"], json.dumps(data.get("arguments", {})))


def _docs_of(spec: ToolSpec) -> str:
    return "".join(f"\n  {one.name}: {one.doc}" for one in spec.parameters)
