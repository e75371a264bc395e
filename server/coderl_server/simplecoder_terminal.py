"""What a person at the terminal sees and says. Standard output is for the answer alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import typer

from coderl_generator.agent.calls import RawCall
from coderl_generator.agent.citations import Citation
from coderl_generator.agent.loop import Ended, Status
from coderl_generator.agent.permissions import Consent, Kind, Request
from coderl_generator.agent.toolbox import Observation, Outcome, capped, cleaned
from coderl_generator.agent.trajectory import Trajectory

_SHOWN_CHARS = 400
_ANSWERS = MappingProxyType(
    {
        **dict.fromkeys(("o", "once", "y", "yes"), Consent.ONCE),
        **dict.fromkeys(("r", "run"), Consent.RUN),
        **dict.fromkeys(("a", "always"), Consent.ALWAYS),
        **dict.fromkeys(("n", "no"), Consent.DENY),
    }
)


class Terminal:
    """Prints what happens and asks for permission. What models and files say is `cleaned` first, so that it cannot draw a
    question of its own over ours."""

    def __init__(self, *, interactive: bool, quiet: bool = False) -> None:
        """`interactive`: there is somebody to ask. `quiet`: print questions and notices only."""
        self.interactive = interactive
        self._quiet = quiet
        self._in_text = False
        self._said = ""
        """By the model since its last call."""
        self._previewed = ""

    def heard(self, text: str) -> None:
        """See `Listener`."""
        self._said += text
        if not self._quiet:
            self._in_text = True
            sys.stderr.write(cleaned(text))
            sys.stderr.flush()

    def called(self, call: RawCall, observation: Observation) -> None:
        """See `Listener`."""
        self._said = ""
        if self._quiet:
            return
        mark = {Outcome.DONE: "✓", Outcome.FAILED: "✗"}.get(observation.outcome, "⊘")
        self._line(f"{mark} {call.name} {capped(call.arguments, _SHOWN_CHARS)}")
        seen = bool(observation.diff) and observation.diff == self._previewed
        self._line(capped(observation.text if seen else observation.diff or observation.text, _SHOWN_CHARS))

    def noticed(self, text: str) -> None:
        """See `Listener`."""
        self._line(f"! {cleaned(text)}")

    def ask(self, request: Request) -> Consent:
        """Whether something may be done; no answer (end of input) is a no."""
        what = "Write" if request.kind is Kind.WRITE else "Run (on a copy, without network)"
        self._previewed = request.preview
        self._line(cleaned(request.preview))
        self._line(f"? {what}: {cleaned(', '.join(request.subjects))}")
        while True:
            sys.stderr.write(f"  [o]nce, all {request.kind} of this [r]un, [a]lways in this workspace, [n]o: ")
            sys.stderr.flush()
            said = sys.stdin.readline()
            if not said:
                return Consent.DENY
            consent = _ANSWERS.get(said.strip().lower())
            if consent is not None:
                return consent

    def question(self) -> str:
        """What the person says next; empty at the end of input."""
        if self.interactive:
            self._line("")
            sys.stderr.write("> ")
            sys.stderr.flush()
        return sys.stdin.readline().strip()

    def answered(self, ended: Ended, bad: Sequence[Citation]) -> None:
        """The answer, on standard output, and what of its citations is not there."""
        self._line("")
        on_screen = sys.stdout.isatty() and not self._quiet and self._said.strip() == ended.answer
        if ended.answer and not on_screen:
            typer.echo(cleaned(ended.answer))
        self._said = ""
        for one in bad:
            self._line(f"! The answer cites {one.text}: {one.objection}.")

    def ended(self, ended: Ended, path: Path) -> None:
        """How the run ended."""
        spent = ended.spent
        self._line(f"[{ended.status}; {spent.steps} steps, {spent.tokens} tokens, {spent.wall_s:.0f} s; record: {path}]")
        if ended.detail:
            self._line(f"simplecoder: the run ended: {cleaned(ended.detail)}")
        if ended.status is not Status.ANSWERED:
            self._line(f"To go on: simplecoder --resume {path}")

    def _line(self, text: str) -> None:
        if self._in_text:
            sys.stderr.write("\n")
            self._in_text = False
        if text:
            sys.stderr.write(text.rstrip("\n") + "\n")


def shown(trajectory: Trajectory) -> str:
    """A record for a person to read; what compaction dropped is marked with `~`."""
    dropped = {line["index"] for line in trajectory.dropped()}
    lines = []
    for line in trajectory.lines:
        if line["kind"] == "message":
            message = line["message"]
            mark = "~" if line["index"] in dropped else " "
            calls = [f"{one['function']['name']} {one['function']['arguments']}" for one in message.get("tool_calls", ())]
            text = "\n".join(part for part in (str(message.get("content") or ""), *calls) if part)
            lines += [f"{mark}{line['index']:>3} {line['origin']}", *(f"{mark}    {part}" for part in text.splitlines())]
        elif line["kind"] in ("start", "end", "plan", "notice"):
            kept = {key: value for key, value in line.items() if key not in ("kind", "at_s", "config")}
            lines.append(f"   {line['kind']} {json.dumps(kept, ensure_ascii=False)}")
    return cleaned("\n".join(lines))
