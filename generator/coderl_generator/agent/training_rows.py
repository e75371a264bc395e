"""A recorded run as rows to train on.

Where the endpoint told the token ids of prompts and replies, replies whose prompt continues the one before become one sequence,
token by token as it was sampled and never tokenised again: `mask` is 1 where the model wrote and 0 where the task or a tool
did, `logprobs` holds 0 there. Where it did not tell them, a row holds one reply with its messages, and the ids and log-probs
that there are. A row says nothing of how good the run was: `reward` is None until a judge fills it in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .chat import Message
from .conversation import Entry, with_line
from .trajectory import Trajectory

FORMAT = 1


def training_rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    """Rows in the order of the run."""
    head = {"format": FORMAT, "task": trajectory.start["task"], "model": trajectory.start["config"]["model"], "reward": None}
    open_sequence = _Sequence()
    for turn, (reply, messages, message) in enumerate(_replies(trajectory)):
        if not (reply["prompt_ids"] and reply["token_ids"]):
            ids = {"token_ids": reply["token_ids"], "logprobs": reply["logprobs"]}
            yield {
                **head,
                "kind": "reply",
                "turn": turn,
                "purpose": reply["purpose"],
                "messages": messages,
                "reply": message,
                **ids,
            }
            continue
        if not open_sequence.continues(reply):
            if open_sequence.tokens:
                yield {**head, **open_sequence.row()}
            open_sequence = _Sequence()
        open_sequence.add(reply, turn)
    if open_sequence.tokens:
        yield {**head, **open_sequence.row()}


@dataclass(slots=True)
class _Sequence:
    tokens: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def continues(self, reply: dict[str, Any]) -> bool:
        """Whether a reply's prompt begins with all that is here."""
        return bool(self.tokens) and reply["prompt_ids"][: len(self.tokens)] == self.tokens

    def add(self, reply: dict[str, Any], turn: int) -> None:
        """What the prompt has more, masked out, then the reply."""
        told = reply["prompt_ids"][len(self.tokens) :]
        written = reply["token_ids"]
        logprobs: list[float | None] = reply["logprobs"] if len(reply["logprobs"]) == len(written) else [None] * len(written)
        self.tokens += told + written
        self.mask += [0] * len(told) + [1] * len(written)
        self.logprobs += [*([0.0] * len(told)), *logprobs]
        self.turns.append(turn)

    def row(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "kind": "sequence",
            "turns": self.turns,
            "token_ids": self.tokens,
            "mask": self.mask,
            "logprobs": self.logprobs,
        }


def _replies(trajectory: Trajectory) -> Iterator[tuple[dict[str, Any], list[Message], Message | None]]:
    """Each reply with the conversation it answered, and its own message (None where it stands in no conversation)."""
    live: list[Entry] = []
    waiting: tuple[dict[str, Any], list[Message]] | None = None
    for line in trajectory.of("reply", "message"):
        if line["kind"] == "message":
            live = with_line(live, line)
        if waiting is not None:
            own = line["message"] if line["kind"] == "message" and waiting[0]["purpose"] == "act" else None
            yield (*waiting, own)
        waiting = (line, line.get("request") or [one.message for one in live]) if line["kind"] == "reply" else None
    if waiting is not None:
        yield (*waiting, None)
