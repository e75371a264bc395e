"""The agent's loop: the model reasons, calls tools, sees what they say, until it answers or a budget is used up.

One step is one reply. A reply with a call that cannot be read is answered with one sentence that says what is wrong; the third
such reply in a row ends the run. Everything is on record before it counts (`trajectory`), so that a run that was killed, or
ended by Ctrl-C, can be resumed at the step where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from coderl_generator.errors import ContextFull, GenerationTimedOut, GeneratorError, MalformedCall, ToolsRefused

from .budget import Budget, Spent
from .calls import Call, RawCall, read_call, read_text
from .chat import ChatModel, Message, Reply, Sampling, estimated_tokens, seems_without_tools
from .compaction import Compactor
from .conversation import Conversation, Origin
from .toolbox import Observation, Outcome, Toolbox
from .trajectory import Recorder, bytes_to_json

MALFORMED_IN_A_ROW: Final = 3
_CUT = "Your message was cut off because it was too long. Do less in one message."
_EMPTY = "Your message is empty. Call a tool, or write your answer."
_DROPPED = "The prompt is so short that the server may have left the tools out; if none is called, try the text protocol."
_LOST = "The run was interrupted during this call. Whether it was done is not known: look before you repeat it."
_LONGEST_REPLY_S: Final = 600.0


class Status(StrEnum):
    """How a run ended."""

    ANSWERED = "answered"
    BUDGET = "budget"
    MALFORMED = "malformed"
    """Three replies in a row held calls that could not be read."""
    FAILED = "failed"
    """The endpoint is gone or refused; the run can be resumed."""
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run."""

    status: Status
    detail: str
    """What was used up, or what failed."""
    answer: str
    spent: Spent


class Listener(Protocol):
    """Who watches a run."""

    def heard(self, text: str) -> None:
        """A piece of the model's text."""

    def called(self, call: RawCall, observation: Observation) -> None:
        """A call and what came of it."""

    def noticed(self, text: str) -> None:
        """Something beside."""


@dataclass(slots=True)
class Agent:
    """One run. Built by the command line from parts that know nothing of each other."""

    model: ChatModel
    toolbox: Toolbox
    conversation: Conversation
    recorder: Recorder
    budget: Budget
    sampling: Sampling
    compactor: Compactor
    listener: Listener
    now_s: Callable[[], float]
    system: Callable[[bool], str]
    """The system message, with tool calls of the endpoint's own (true) or with the text protocol explained."""
    after_failure: str = ""
    """Said behind an observation of something that went wrong (about the plan)."""
    spent: Spent = field(default_factory=Spent)
    before: dict[str, bytes | None] = field(default_factory=dict)
    """What the files that the run changed held before it."""
    open_calls: tuple[tuple[RawCall, bool], ...] = ()
    """Of a run that is resumed: calls of its last message without an observation, and whether they were begun."""
    _malformed: int = 0

    def run(self, first: Callable[[], None] = lambda: None) -> Ended:
        """Go on until the end; never raises but for faults of this program. `first`: what is said before the first reply."""
        start_s, before_s = self.now_s(), self.spent.wall_s
        try:
            self._close_open_calls()
            first()
            while True:
                self.spent = replace(self.spent, wall_s=before_s + self.now_s() - start_s)
                if over := self.budget.over(self.spent):
                    return self._ended(Status.BUDGET, over)
                told = estimated_tokens((), self.toolbox.specs) if self.model.native_tools else 0
                self.compactor.compact(self.conversation, self.ask, tuple(self.before), told)
                answer = self._step()
                if answer is not None:
                    return self._ended(Status.ANSWERED, "", answer)
                if self._malformed >= MALFORMED_IN_A_ROW:
                    return self._ended(Status.MALFORMED, f"{MALFORMED_IN_A_ROW} replies in a row could not be read")
        except KeyboardInterrupt:
            return self._ended(Status.INTERRUPTED, "Ctrl-C")
        except ContextFull as error:
            return self._ended(Status.BUDGET, str(error))
        except GenerationTimedOut as error:
            self.spent = replace(self.spent, wall_s=before_s + self.now_s() - start_s)
            over = self.budget.over(self.spent)
            return self._ended(Status.BUDGET if over else Status.FAILED, over or str(error))
        except GeneratorError as error:
            return self._ended(Status.FAILED, str(error))

    def _step(self) -> str | None:
        """One reply and what it asks for; the answer, if it is one."""
        reply = self.ask(self.conversation.messages, "act")
        self.conversation.add(Origin.MODEL, reply.message())
        try:
            answer, raw_calls = self._read(reply)
        except MalformedCall as error:
            self._correct(str(error))
            return None
        if answer is not None:
            self._malformed = 0
            return answer
        malformed = False
        for raw in raw_calls:
            observation = self._observed(raw)
            malformed = malformed or observation.outcome is Outcome.MALFORMED
            self.listener.called(raw, observation)
        self._malformed = self._malformed + 1 if malformed else 0
        return None

    def _read(self, reply: Reply) -> tuple[str | None, tuple[RawCall, ...]]:
        """Answer or calls. Raises `MalformedCall`."""
        if reply.calls:
            return None, reply.calls
        if reply.finish == "length":
            raise MalformedCall(_CUT)
        if not reply.text.strip():
            raise MalformedCall(_EMPTY)
        return (reply.text.strip(), ()) if self.model.native_tools else read_text(reply.text, self.spent.steps)

    def _observed(self, raw: RawCall) -> Observation:
        """Run one call, on record before and after."""
        start_s = self.now_s()
        try:
            call = read_call(raw, self.toolbox.specs)
        except MalformedCall as error:
            call, observation = Call(raw.id, raw.name, {"unread": raw.arguments}), Observation(str(error), Outcome.MALFORMED)
        else:
            self.recorder.write("begun", id=raw.id, tool=raw.name)
            observation = self.toolbox.run(call)
        self._record(call, observation, self.now_s() - start_s)
        return observation

    def _record(self, call: Call, observation: Observation, seconds: float = 0.0) -> None:
        for one in observation.changes:
            self.before.setdefault(str(one.path), one.before)
        self.recorder.write(
            "call",
            id=call.id,
            tool=call.name,
            arguments=dict(call.arguments),
            outcome=str(observation.outcome),
            observation=observation.text,
            diff=observation.diff,
            before={str(one.path): bytes_to_json(one.before) for one in observation.changes},
            seconds=round(seconds, 3),
        )
        went_wrong = observation.outcome is not Outcome.DONE or observation.text.startswith("exit status")
        went_wrong = went_wrong and not observation.text.startswith("exit status 0")
        parts = [observation.text, self.after_failure if went_wrong else "", self.budget.warning(self.spent)]
        self.conversation.add(Origin.TOOL, self._tool_message(call.id, "\n".join(part for part in parts if part)))

    def _tool_message(self, identity: str, text: str) -> Message:
        if self.model.native_tools:
            return {"role": "tool", "tool_call_id": identity, "content": text}
        return {"role": "user", "content": f"<tool_response>\n{text}\n</tool_response>"}

    def _correct(self, sentence: str) -> None:
        self._malformed += 1
        self.recorder.write("call", id="", tool="", arguments={}, outcome=str(Outcome.MALFORMED), observation=sentence)
        self.listener.noticed(sentence)
        self.conversation.add(Origin.LOOP, {"role": "user", "content": sentence})

    def ask(self, messages: list[Message], purpose: str) -> Reply:
        """One reply, on record; `act` with the tools, anything else without."""
        specs = self.toolbox.specs if purpose == "act" else ()
        left_s = _LONGEST_REPLY_S if self.budget.wall_s is None else self.budget.wall_s - self.spent.wall_s
        start_s = self.now_s()
        try:
            reply = self.model.reply(
                messages, specs, self.sampling, timeout_s=max(1.0, min(_LONGEST_REPLY_S, left_s)), heard=self.listener.heard
            )
        except ToolsRefused as error:
            return self.ask(self._without_tools(error), purpose)
        estimated = estimated_tokens(messages, specs if self.model.native_tools else ())
        self.compactor.measured(reply.prompt_tokens, estimated)
        if self.spent.steps == 0 and specs and self.model.native_tools and seems_without_tools(reply, messages, specs):
            self._notice(_DROPPED)
        self.spent = self.spent.plus(reply, estimated)
        request = {} if purpose == "act" else {"request": messages}  # the others stand in no conversation
        self.recorder.write(
            "reply",
            purpose=purpose,
            **request,
            finish=reply.finish,
            reasoning=reply.reasoning,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            prompt_ids=list(reply.prompt_ids),
            token_ids=list(reply.token_ids),
            logprobs=list(reply.logprobs),
            seconds=round(self.now_s() - start_s, 3),
            spent=self.spent.to_json(),
        )
        return reply

    def _without_tools(self, error: ToolsRefused) -> list[Message]:
        """The conversation with the text protocol explained; the server said that it takes no tools."""
        self._notice(f"{error}. Tools are called by text from here on.", native_tools=False)
        self.conversation.replace(
            self.conversation.entries[:1], Origin.SYSTEM, {"role": "system", "content": self.system(False)}
        )
        return self.conversation.messages

    def _notice(self, sentence: str, **fields: bool) -> None:
        self.recorder.write("notice", text=sentence, **fields)
        self.listener.noticed(sentence)

    def _close_open_calls(self) -> None:
        """Answer the calls that were begun when a run was killed, and make those that were not."""
        for raw, begun in self.open_calls:
            lost = Observation(_LOST, Outcome.INTERRUPTED)
            self._record(Call(raw.id, raw.name, {"unread": raw.arguments}), lost) if begun else self._observed(raw)
        self.open_calls = ()

    def _ended(self, status: Status, detail: str, answer: str = "") -> Ended:
        return Ended(status, detail, answer, self.spent)
