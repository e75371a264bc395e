"""A short plan before the first act, and its revision when an observation contradicts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .calls import Parameter, ToolSpec
from .chat import Message, Reply
from .conversation import Conversation, Origin
from .permissions import Kind
from .toolbox import Prepared, capped
from .trajectory import Recorder

_MOST_CHARS: Final = 3_000
_REQUEST = "Before you act, write a plan: at most seven numbered steps, one line each, nothing else. Call no tool yet."
_GO = "Carry the plan out. Where what you see contradicts it, call revise_plan before you go on."
REMINDER = "[If this contradicts your plan, call revise_plan first.]"


class RevisePlan:
    """The tool that puts another plan in the place of the old one."""

    spec = ToolSpec(
        "revise_plan",
        "Put a new plan in the place of the old one, when something you saw contradicts it.",
        (
            Parameter("plan", "string", "The new plan: at most seven numbered steps."),
            Parameter("because", "string", "What contradicts the old one."),
        ),
    )

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""

        def act() -> str:
            self._recorder.write("plan", plan=arguments["plan"], because=arguments["because"])
            return f"The plan is now:\n{capped(arguments['plan'], _MOST_CHARS)}"

        return Prepared(Kind.READ, ("plan",), act)


def make_plan(conversation: Conversation, recorder: Recorder, ask: Callable[[list[Message], str], Reply]) -> None:
    """Ask for the plan and put it into the conversation. It stands with what persons said, so compaction keeps it.

    Raises what the model raises.
    """
    request: Message = {"role": "user", "content": _REQUEST}
    plan = capped(ask([*conversation.messages, request], "plan").text.strip(), _MOST_CHARS)
    recorder.write("plan", plan=plan, because="the task")
    conversation.add(Origin.USER, {"role": "user", "content": f"Your plan:\n{plan}\n\n{_GO}"})
