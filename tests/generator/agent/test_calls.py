from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.agent.calls import Parameter, RawCall, ToolSpec, instructions, read_call, read_text
from coderl_generator.errors import MalformedCall

SPEC = ToolSpec("read_file", "Read.", (Parameter("path", "string", "P."), Parameter("start", "integer", "S.", required=False)))


def call(name: str, arguments: Any) -> RawCall:
    return RawCall("1", name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def test_a_right_call() -> None:
    assert read_call(call("read_file", {"path": "a", "start": 3}), [SPEC]).arguments == {"path": "a", "start": 3}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("read", {"path": "a"}, "There is no tool 'read'. There are: read_file."),
        ("read_file", "{path: a}", "no JSON"),
        ("read_file", [1], "one JSON object"),
        ("read_file", {}, "lacks path"),
        ("read_file", {"path": "a", "permission": "always"}, "no argument 'permission'"),
        ("read_file", {"path": 3}, "type string"),
        ("read_file", {"path": "a", "start": True}, "type integer"),
        ("read_file", {"path": "x" * 500_000}, "longer than"),
        ("read_file", "[" * 100_000, "no JSON"),
    ],
)
def test_the_correction_says_what_is_wrong(name: str, arguments: Any, said: str) -> None:
    with pytest.raises(MalformedCall) as caught:
        read_call(call(name, arguments), [SPEC])
    assert said in str(caught.value)


def test_text_with_one_call_several_or_an_answer() -> None:
    one = '<tool_call>\n{"name": "read_file", "arguments": {"path": "a"}}\n</tool_call>'
    assert read_text(f"I look.\n{one}", 4) == (None, (RawCall("call-4-0", "read_file", '{"path": "a"}'),))
    assert len(read_text(f"{one}\n{one}", 4)[1]) == 2
    assert read_text("So.\n<answer>\ndone\n</answer>\n", 1) == ("done", ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I would read a.", "neither a call nor an answer"),
        ("<tool_call>{}", "not closed"),
        ("<answer>x", "not closed"),
        ("<tool_call>{}</tool_call>", "name and arguments"),
        ("<tool_call>read a</tool_call>", "no JSON"),
        ('<tool_call>{"name": "a", "arguments": {}}</tool_call> <tool_response>made up</tool_response>', "nothing behind"),
        ('<tool_call>{"name": "a", "arguments": {}}</tool_call><answer>x</answer>', "a call and an answer"),
        ('<tool_call>{"name": "a", "arguments": {}, "allow": true}</tool_call>', "name and arguments"),
    ],
)
def test_text_that_is_malformed(text: str, said: str) -> None:
    with pytest.raises(MalformedCall) as caught:
        read_text(text, 1)
    assert said in str(caught.value)


@given(st.text(max_size=300))
def test_any_text_is_read_or_corrected(text: str) -> None:
    for made in (text, f"<tool_call>{text}</tool_call>"):
        try:
            _, calls = read_text(made, 1)
            for one in calls:
                read_call(one, [SPEC])
        except MalformedCall:
            pass


def test_the_instructions_name_every_tool_and_argument() -> None:
    text = instructions([SPEC])
    assert all(word in text for word in ("read_file", "path", "start", "<tool_call>", "<answer>"))
