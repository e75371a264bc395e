"""A context in, a decision out: what is answered, what is logged at which level, and whose judgement it is."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from coderl_gate.artifact import default_artifact
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend
from coderl_server.intervene import Intervener
from coderl_server.positions import Encoding
from coderl_server.service import LanguageService
from coderl_server.session import Identity
from coderl_server.settings import Settings
from coderl_server.team.generation import gate_of
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.clock import SystemClock, utc
from coderl_store.codec import encode
from coderl_store.home import home
from coderl_store.ids import IdSource
from coderl_store.memory import MemoryLog
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Outcome,
    OutcomeKind,
    Privacy,
    Reason,
    Record,
    Session,
    Suggestion,
    Trigger,
)

from .conftest import NDJSON, Team, built
from .test_relay import figure, until

SCRIPT = Script(
    rules=(
        Rule(text="(1)", pattern=r"slow\Z", first_delay_ms=3_600_000.0),
        Rule(pattern=r"gone\Z", failure=Failure.UNAVAILABLE),
    ),
    default=Rule(text=" sum(values)\n", logprob=-0.05),
)
BEFORE, BEHIND = "values = [1]\ntotal = ", "\nprint(total)\n"
PLACE: dict[str, Any] = {"language": "python", "path": "src/a.py", "prefix": BEFORE, "suffix": BEHIND}


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def team(log: MemoryLog) -> Team:
    return built(home(), TeamSettings(), log, SCRIPT)


async def ask(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/decisions", json={**PLACE, **changes})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def rows(log: MemoryLog, kind: type[Record]) -> list[Any]:
    return [record for record in log.records if isinstance(record, kind)]


async def test_what_is_asked_for_is_shown_and_logged_and_its_outcome_can_be_sent(team: Team, log: MemoryLog) -> None:
    async with team.running(), team.client() as client:
        found = await ask(client, trigger="invoked", client_name="shell")
        assert (found["action"], found["reason"], found["text"]) == ("show", "asked_for", "sum(values)")
        assert 0 < found["p1"] < 1
        assert 0 < found["p2"] < 1
        again = await ask(client, trigger="invoked", session_id=found["session_id"])
        at = utc(team.clock.now_s())
        outcome = Outcome(
            IdSource(SystemClock()).new(),
            at,
            found["session_id"],
            found["suggestion_id"],
            found["decision_id"],
            OutcomeKind.ACCEPTED,
            Evidence.NOTIFICATION,
        )
        sent = await client.post("/v1/records", content=encode(outcome) + "\n", headers={"Content-Type": NDJSON})
        assert sent.json() == {"accepted": 1, "rejected": []}
    assert again["session_id"] == found["session_id"]
    assert len({one.id for one in rows(log, Session)}) == 1
    session, decision, suggestion = rows(log, Session)[0], rows(log, Decision)[0], rows(log, Suggestion)[0]
    assert (session.user_key, session.client_name) == (team.key_of("me"), "shell")
    assert (decision.id, decision.action, decision.generator_id) == (found["decision_id"], Action.SHOW, "scripted")
    assert (suggestion.id, suggestion.decision_id) == (found["suggestion_id"], decision.id)
    assert rows(log, Outcome) == [outcome]


async def test_it_is_the_language_servers_own_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probability is the gate's of the logged context, and a language service in this process says the same text there."""
    monkeypatch.setenv("CODERL_PRIVACY", "code")
    log = MemoryLog(Privacy.CODE)
    team = built(home(), TeamSettings(), log, SCRIPT)
    async with team.running(), team.client() as client:
        found = await ask(client, trigger="invoked")
    clock = SystemClock()
    ids = IdSource(clock)
    backend = ScriptedBackend(clock, SCRIPT)
    artifact = default_artifact()
    intervener = Intervener(gate_of(artifact, "scripted"), backend, clock, ids)
    identity = Identity(ids.new(), "u", b"salt")
    service = LanguageService(
        identity=identity,
        intervener=intervener,
        log=MemoryLog(),
        clock=clock,
        ids=ids,
        rng=random.Random(1),
        settings=Settings(max_debounce_ms=0, work_ahead=False),
        backend=backend,
    )
    service.opened("file:///src/a.py", "python", 1, PLACE["prefix"] + PLACE["suffix"])
    asked = service.capture("file:///src/a.py", 1, 8, Encoding.UTF32, Trigger.INVOKED)
    shown = await service.suggest(asked)
    assert shown is not None
    assert shown.edit.insert_text.endswith(found["text"])
    decision = service.why("file:///src/a.py")["decision"]["fields"]
    service.close()
    context = rows(log, Context)[0]
    assert (context.prefix, context.suffix) == (BEFORE, BEHIND)
    assert found["p1"] == rows(log, Decision)[0].p1 == gate_of(artifact, "scripted").before(context)[0]
    assert found["gate_id"] == decision["gate_id"] == artifact.id


@pytest.mark.parametrize("level", [Privacy.OFF, Privacy.METRICS, Privacy.CODE])
async def test_the_level_of_the_request_counts_up_to_that_of_the_server(level: Privacy, team: Team, log: MemoryLog) -> None:
    async with team.running(), team.client() as client:
        found = await ask(client, trigger="invoked", settings={"privacy": level.value, "nonsense": 1})
    assert len(found["problems"]) == (2 if level is Privacy.CODE else 1)
    if level is Privacy.OFF:
        assert not log.records
        return
    context, suggestion = rows(log, Context)[0], rows(log, Suggestion)[0]
    assert (context.prefix, context.suffix, suggestion.text, suggestion.token_ids) == (None, None, None, ())
    assert suggestion.logprobs
    assert "a.py" not in encode(context)


async def test_rules_and_failures_are_answers_with_their_reason(team: Team, log: MemoryLog) -> None:
    async with team.running(), team.client() as client:
        for changes, reason in (
            ({"path": "/home/me/.env"}, Reason.SECRET_FILE),
            ({"language": "markdown"}, Reason.DISABLED),
            ({"since_dismissal_ms": 10}, Reason.COOLDOWN),
            ({"settings": {"manualOnly": True}}, Reason.MANUAL_ONLY),
            ({"settings": {"maxDocumentChars": 5}}, Reason.TOO_LARGE),
            ({"settings": {"maxDocumentChars": 1}}, Reason.TOO_LARGE),
            ({"prefix": "gone", "trigger": "invoked"}, Reason.GENERATOR_FAILED),
            ({"settings": {"rule": "never_show"}}, Reason.NEVER_SHOWN),
        ):
            found = await ask(client, **changes)
            assert (found["action"], found["reason"], found["text"], found["suggestion_id"]) == ("withhold", reason, "", None)
            assert found["sentence"] == reason.sentence
    assert Reason.SECRET_FILE not in [decision.reason for decision in rows(log, Decision)]
    assert Reason.GENERATOR_FAILED in [decision.reason for decision in rows(log, Decision)]


async def test_a_client_that_leaves_is_superseded_and_its_decoding_stops(team: Team, log: MemoryLog) -> None:
    async with team.on_port() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        request = asyncio.ensure_future(client.post("/v1/decisions", json={**PLACE, "prefix": "slow", "trigger": "invoked"}))
        await until(lambda: figure(team, "coderl_generations_running") == 1)
        request.cancel()
        await until(lambda: figure(team, "coderl_generations_running") == 0)
        await until(lambda: bool(rows(log, Decision)))
    assert [decision.reason for decision in rows(log, Decision)] == [Reason.SUPERSEDED]


async def test_another_gate_decides_from_then_on(team: Team) -> None:
    generation = team.parts.generation
    assert generation is not None
    async with team.running(), team.client() as client:
        await ask(client, trigger="invoked")
        generation.change_template("plain")
        assert generation.changes == 1
        assert (await ask(client, trigger="invoked"))["action"] == "show"


@pytest.mark.parametrize(("prefix", "line", "character"), [("a\r\nbc", 1, 2), ("a\rb", 1, 1), ("", 0, 0), ("x\n", 1, 0)])
async def test_the_place_is_where_the_prefix_ends(prefix: str, line: int, character: int, team: Team, log: MemoryLog) -> None:
    async with team.running(), team.client() as client:
        await ask(client, prefix=prefix, suffix="\nrest", trigger="invoked")
    context = rows(log, Context)[0]
    assert (context.line, context.character) == (line, character)


async def test_on_leaving_a_decision_under_way_is_finished_and_a_new_one_refused() -> None:
    script = Script(default=Rule(text=" sum(values)\n", first_delay_ms=300.0))
    team = built(home(), TeamSettings(), MemoryLog(), script)
    async with team.running(), team.client() as client:
        request = asyncio.ensure_future(ask(client, trigger="invoked"))
        await until(lambda: figure(team, "coderl_generations_running") == 1)
        team.parts.drain.begin()
        late = await client.post("/v1/decisions", json=PLACE)
        assert (late.status_code, late.json()["code"]) == (503, "leaving")
        assert (await request)["action"] == "show"


async def test_on_leaving_a_decision_that_takes_too_long_is_refused_and_logged(log: MemoryLog) -> None:
    team = built(home(), TeamSettings(limits=Limits(drain_s=0.2)), log, SCRIPT)
    async with team.running(), team.client() as client:
        place = {**PLACE, "prefix": "slow", "trigger": "invoked", "settings": {"deadlineMs": 60_000}}
        request = asyncio.ensure_future(client.post("/v1/decisions", json=place))
        await until(lambda: figure(team, "coderl_generations_running") == 1)
        team.parts.drain.begin()
        answer = await request
    assert (answer.status_code, answer.json()["code"]) == (503, "leaving")
    assert [decision.reason for decision in rows(log, Decision)] == [Reason.SUPERSEDED]
