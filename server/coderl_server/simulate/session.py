"""The simulated session: one server process, one programmer, file after file.

Time is the server's virtual clock, so a session runs as fast as the server answers, and repeats exactly as far as the generator
does. The order of events at a pause: the editor asks when the last key has been typed; nothing else happens until the server
has answered or waits for the clock; `latency_ms` later the suggestion is on the screen; the programmer reads it for the cost
model's t_verify, then takes it or not; what is left of the pause passes. Where the pause ends before the server answers, the
request is cancelled; where it ends before the suggestion is on the screen, the suggestion was never seen.

Measured: `latency_ms` of the report, in real time. Not measured: the virtual latency is nominal and the same for every
generated answer, so a slow generator is not punished by the session; compare generators by the measured latency.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coderl_gate.costs import costs_of, realised_s
from coderl_store.home import StoreSettings
from coderl_store.records import Action, Privacy

from ..errors import InputError, ServerFailed
from ..gates import chosen_artifact
from .audit import Audit, in_the_log
from .client import Asked, Editor, Offer
from .identity import session_id
from .options import SimulateOptions, Typescript, read_typescripts
from .programmer import Judgement, Key, Pause, Take, judge
from .report import Counters, FileReport, SimulateReport

START_MS = 1_700_000_001_000.0
"""When every simulated session begins, in ms since the epoch: a second after a fresh `VirtualClock`."""
CLOCK_STEP_S = 0.025
"""Virtual time between two looks at a request that waits for the clock."""
OUTCOME_WAIT_S = 11.0
"""Left to the server before a document is closed: a shown suggestion times out after ten seconds."""
SURVIVAL_MARKS_S = (15.5, 30.5, 120.5, 300.5, 600.5)
"""With `keep_open`: just behind the ages at which survival is measured."""
_DECISIONS_EVERY = 4000
"""Requests between two readings of `coderl/decisions`, which remembers the last 10,000."""

Advance = Callable[[int], None]
"""Told how many keys have been dealt with since the last call."""


def run(options: SimulateOptions, console: Console | None = None) -> SimulateReport:
    """Run a session. Progress goes to `console` (None = no progress).

    Raises InputError where the user's input is wrong, or this very session is in the log already, and ServerFailed where the
    server died or broke its promises.
    """
    typescripts = read_typescripts(options)
    store = options.store()
    identity = None if options.server_command is not None else _new_session(options, typescripts, store)
    return asyncio.run(_run(options, typescripts, store.database_url, identity, console))


def _new_session(options: SimulateOptions, typescripts: Sequence[Typescript], store: StoreSettings) -> str:
    """The session's id. Raises InputError where the log has it already: its rows would be taken for those of this run."""
    artifact, _ = chosen_artifact(options.gate, store.home)
    identity = session_id(options, typescripts, artifact.id, store.privacy)
    if store.privacy is not Privacy.OFF and in_the_log(store.database_url, identity):
        raise InputError(
            f"This very session (seed {options.seed}, same files, same options) is already in the log, so nothing was typed "
            "or added: name another --seed, or another --home."
        )
    return identity


async def _run(
    options: SimulateOptions,
    typescripts: Sequence[Typescript],
    database_url: str,
    identity: str | None,
    console: Console | None,
) -> SimulateReport:
    editor = Editor(version("coderl"))
    editor.now_ms = START_MS
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("keys"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=console is None) as progress:
        try:
            await editor.start(options.command(identity), options.environment(os.environ), options.wire_settings())
            session = Session(editor, options, database_url)
            parts: list[FileReport] = []
            for typescript in typescripts:
                bar = progress.add_task(typescript.path.name, total=len(typescript.keys))
                counters = await session.type_file(typescript, partial(progress.advance, bar))
                parts.append(FileReport(str(typescript.path), counters))
            return await session.finish(parts)
        finally:
            await editor.quit()


class Session:
    """The programmer at the editor. Built for one started `Editor`."""

    def __init__(self, editor: Editor, options: SimulateOptions, database_url: str) -> None:
        self._editor = editor
        self._options = options
        self._database_url = database_url
        self._costs = options.cost_parameters
        self._digest = hashlib.sha256()
        self._decided: dict[str, str] = {}
        """Decision id → its canonical line, of the whole session."""
        self._session_id = ""

    async def type_file(self, typescript: Typescript, advance: Advance) -> Counters:
        """Type one file from its first key to its last. Raises ServerFailed."""
        editor, counters = self._editor, Counters()
        text, offset = typescript.text, typescript.start
        await editor.open(typescript.uri, typescript.language, text[:offset], text[typescript.end :])
        started_ms = editor.now_ms
        counters.keystrokes_without = len(typescript.keys)
        index, asked = 0, 0
        while index < len(typescript.keys):
            key = typescript.keys[index]
            await editor.wait(key.gap_s)
            editor.insert(key.text)
            counters.keystrokes += 1
            done, index = index, index + 1
            while (pause := typescript.keys[index - 1].pause) is not None:
                taken = await self._pause(pause, text[editor.cursor.offset : typescript.end], counters)
                if not taken:
                    break
                keys = keys_in(typescript.keys[index:], taken)
                counters.keystrokes_saved += keys - 1
                index += keys
            advance(index - done)
            if counters.requests - asked >= _DECISIONS_EVERY:
                asked = counters.requests
                await self._collect(counters)
        counters.session_s = (editor.now_ms - started_ms) / 1000.0
        assert editor.text == text, "the document must end as the file is"
        await self._leave(counters)
        return counters

    async def _leave(self, counters: Counters) -> None:
        passed_s = 0.0
        for mark_s in SURVIVAL_MARKS_S if self._options.keep_open else (OUTCOME_WAIT_S,):
            await self._editor.wait(mark_s - passed_s)
            passed_s = mark_s
        self._editor.close_document()
        await self._editor.clock(self._editor.now_ms)
        await self._collect(counters)

    # --- a pause -----------------------------------------------------------------------------------------------------

    async def _pause(self, pause: Pause, upcoming: str, counters: Counters) -> int:
        """Stop for a pause; returns how many characters of a suggestion were taken."""
        editor = self._editor
        ends_ms = editor.now_ms + pause.length_s * 1000.0
        offer = await self._offered(ends_ms, counters) if pause.asks else None
        taken = 0
        if offer is not None:
            shown_ms = editor.now_ms + self._options.latency_ms
            if shown_ms < ends_ms:
                await editor.clock(shown_ms)
                taken = await self._read(offer, pause, upcoming, counters)
            else:
                counters.late += 1
        await editor.clock(max(editor.now_ms, ends_ms))
        return taken

    async def _offered(self, ends_ms: float, counters: Counters) -> Offer | None:
        """Ask, and wait no longer than the pause lasts."""
        editor = self._editor
        counters.requests += 1
        asked = editor.request()
        waited = False
        await editor.clock(editor.now_ms)
        while not asked.answered and editor.now_ms < ends_ms:
            waited = True
            await editor.clock(min(ends_ms, editor.now_ms + CLOCK_STEP_S * 1000.0))
        if not asked.answered:
            counters.superseded += 1
            editor.cancel(asked)
            return None
        return self._first_item(asked, counters, waited)

    def _first_item(self, asked: Asked, counters: Counters, waited: bool) -> Offer | None:
        items = asked.items()
        if asked.latency_ms is not None and not waited:
            counters.latencies_ms.append(asked.latency_ms)
        if items is None:
            counters.superseded += 1
        return self._editor.offer(items[0]) if items else None

    async def _read(self, offer: Offer, pause: Pause, upcoming: str, counters: Counters) -> int:
        """The suggestion is on the screen: read it, then take it, a part of it, or nothing."""
        editor, chars, lines = self._editor, len(offer.new_text), offer.new_text.count("\n") + 1
        editor.shown(offer)
        reading_s = costs_of(chars, lines, self._costs).t_verify_s
        await editor.wait(reading_s)
        judgement = judge(offer.new_text, upcoming) if offer.usable else Judgement(Take.NOTHING)
        saved_s = realised_s(judgement.chars, chars, lines, self._costs)
        counters.seconds_saved += saved_s
        counters.readings.append((chars, saved_s))
        if judgement.take is Take.WHOLE:
            counters.accepted += 1
            await editor.accept(offer)
        elif judgement.take is Take.PART:
            counters.partially_accepted += 1
            editor.accept_part(offer, judgement.chars)
        else:
            counters.wrong_suggestions_seen += 1
            if pause.dismisses:
                counters.dismissed += 1
                editor.dismiss(offer, reading_s * 1000.0)
        self._note("read", editor.now_ms, offer.suggestion_id, judgement.take.value, judgement.chars)
        return judgement.chars

    # --- the record --------------------------------------------------------------------------------------------------

    def _note(self, *facts: object) -> None:
        self._digest.update(json.dumps(facts, ensure_ascii=False).encode() + b"\n")

    async def _collect(self, counters: Counters) -> None:
        """Count the server's decisions since the last call."""
        answer = await self._editor.ask("coderl/decisions", {})
        for line in answer["decisions"]:
            decision = _decision(line)
            if decision["id"] in self._decided:
                continue
            self._decided[decision["id"]] = line
            self._session_id = decision["session_id"]
            self._note("decision", line)
            counters.routes[decision["route"]] += 1
            counters.generated += decision["timings"]["generate_ms"] is not None
            counters.shown += decision["action"] == Action.SHOW
            counters.withheld += decision["action"] == Action.WITHHOLD

    async def finish(self, parts: Sequence[FileReport]) -> SimulateReport:
        """Wait for the log, compare it with what was acknowledged, add everything up."""
        total = Counters()
        for part in parts:
            total.add(part.counters)
        answer = await self._editor.ask("coderl/flush", {})
        lost: int | None = None
        messages = list(self._editor.messages)
        audit = Audit.read(self._database_url, self._session_id, self._editor.recorded_ids, self._decided)
        for line in audit.outcomes:
            self._note("outcome", line)
        if audit.foreign:
            messages.append(
                f"Another run wrote {audit.foreign} decisions under this session's id, and the log kept those: they are "
                "not what this report is about; use another seed or data folder."
            )
        if answer["committed"]:
            lost = audit.lost
        else:
            messages.append(f"{answer['pending']} records still wait in the spool; whether any is lost cannot be said yet.")
        return SimulateReport(
            seed=self._options.seed,
            files=tuple(parts),
            total=total,
            records_acknowledged=len(self._editor.recorded_ids),
            records_lost=lost,
            digest=self._digest.hexdigest(),
            messages=tuple(messages),
        )


def _decision(line: str) -> dict[str, Any]:
    """The fields of a decision's canonical line. Raises ServerFailed where the server sent something else."""
    try:
        content = json.loads(line)
        fields = content.get("fields", content)
        return {name: fields[name] for name in ("id", "session_id", "route", "action", "timings")}
    except (ValueError, AttributeError, KeyError) as error:
        raise ServerFailed("The server's list of decisions cannot be read.") from error


def keys_in(keys: Sequence[Key], chars: int) -> int:
    """How many key presses make the next `chars` characters."""
    count = 0
    while chars > 0:
        chars -= len(keys[count].text)
        count += 1
    return count
