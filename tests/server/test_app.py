"""What `coderl lsp` is built from."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coderl_gate.artifact import default_artifact, save
from coderl_gate.synthetic import World, knowing
from coderl_gate.tendency import Tendency
from coderl_generator.hot_swap import HotSwap
from coderl_generator.scripted import ScriptedBackend
from coderl_server.app import ClockKind, LspOptions, build, watch_for_drift
from coderl_server.errors import InputError
from coderl_server.positions import Encoding
from coderl_store.clock import SystemClock, VirtualClock
from coderl_store.errors import SettingsError
from coderl_store.home import default_database_url, hashed, salt
from coderl_store.records import Privacy, Trigger
from coderl_store.repository import LoggedRequest, Repository


def test_without_a_model_the_server_is_built_and_says_what_to_run() -> None:
    application = build(LspOptions())
    assert application.backend is None
    assert "coderl models install" in application.service.status()["message"]


def test_a_model_file_that_is_not_there_is_said_before_any_client_comes(caplog: pytest.LogCaptureFixture) -> None:
    assert build(LspOptions(model="/no/such/model.gguf")).backend is None
    assert ["/no/such/model.gguf" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(("kind", "clock"), [(ClockKind.SYSTEM, SystemClock), (ClockKind.CLIENT, VirtualClock)])
def test_the_clock_is_the_one_that_was_asked_for(kind: ClockKind, clock: type) -> None:
    assert isinstance(build(LspOptions(backend="scripted", clock=kind)).clock, clock)


@pytest.mark.parametrize(("kind", "timeout_s"), [(ClockKind.SYSTEM, 10.0), (ClockKind.CLIENT, 60.0)])
def test_only_a_session_on_the_clients_clock_is_patient_with_its_generator(kind: ClockKind, timeout_s: float) -> None:
    application = build(LspOptions(backend="scripted", clock=kind))
    service, backend = application.service, application.backend
    service.begin("test", "1")
    service.configure({"deadlineMs": 60_000, "rule": "always_show"})
    service.opened("file:///a.py", "python", 1, "sum(")
    asyncio.run(service.suggest(service.capture("file:///a.py", 0, 4, Encoding.UTF16, Trigger.AUTOMATIC)))
    assert isinstance(backend, HotSwap)
    scripted = backend.backend
    assert isinstance(scripted, ScriptedBackend)
    assert [request.timeout_s for request in scripted.requests] == [timeout_s]


def test_a_gate_that_is_named_must_be_usable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        build(LspOptions(backend="scripted", gate=tmp_path / "nowhere"))


def test_a_broken_active_gate_is_replaced_and_said(own_home: Path) -> None:
    (own_home / "gate").mkdir(parents=True)
    (own_home / "gate" / "active").write_text("missing\n")
    status = build(LspOptions(backend="scripted")).service.status()
    assert status["kind"] == "Warning"
    assert "the shipped one decides" in status["message"]


def test_a_database_that_cannot_be_named_is_refused_at_once() -> None:
    with pytest.raises(SettingsError):
        build(LspOptions(backend="scripted", database_url="sqlite://"))


@pytest.mark.parametrize(
    ("option", "environment", "wanted", "effective"),
    [
        (None, None, None, "metrics"),
        (None, None, "code", "code"),
        (None, None, "off", "off"),
        (Privacy.METRICS, None, "code", "metrics"),
        (Privacy.OFF, None, "code", "off"),
        (Privacy.CODE, None, "code", "code"),
        (Privacy.CODE, None, None, "code"),
        (None, "off", "code", "off"),
        (None, "metrics", "off", "off"),
        (Privacy.CODE, "off", None, "code"),
    ],
)
def test_the_level_of_privacy_is_the_editors_under_the_ceiling_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, option: Privacy | None, environment: str | None, wanted: str | None, effective: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("CODERL_PRIVACY", environment)
    service = build(LspOptions(backend="scripted", privacy=option)).service
    problems = service.configure({} if wanted is None else {"privacy": wanted})
    assert service.status()["privacy"] == effective
    assert bool(problems) == (wanted is not None and wanted != effective)


def test_a_session_id_that_is_given_decides_about_the_ids_and_not_about_the_coins() -> None:
    given = "018bcfe5-6800-7000-8000-000000000001"
    options = LspOptions(backend="scripted", clock=ClockKind.CLIENT, seed=5)
    own, first, again = (build(replace(options, session_id=session_id)).service for session_id in (None, given, given))
    assert first._identity.session_id == given
    assert first._ids.new() == again._ids.new() != own._ids.new()
    other = build(replace(options, session_id=given[:-1] + "2")).service
    assert first._rng.random() == again._rng.random() == other._rng.random()
    assert first._ids.new() != other._ids.new()


def test_one_programmer_keeps_one_key_and_a_seed_makes_the_same_session() -> None:
    first, second = (build(LspOptions(backend="scripted", clock=ClockKind.CLIENT, seed=5)) for _ in range(2))
    assert first.service.command == second.service.command
    assert first.service._identity == second.service._identity
    other = build(LspOptions(backend="scripted", clock=ClockKind.CLIENT, seed=6))
    assert other.service.command != first.service.command
    assert other.service._identity.user_key == first.service._identity.user_key


def test_the_gate_knows_this_programmer_from_the_artifact(own_home: Path, tmp_path: Path) -> None:
    """By the key that the log has for them; somebody else's tendency is not theirs."""
    own_home.mkdir()
    mine = hashed(salt(own_home), getpass.getuser())
    estimates = {}
    for user in (mine, "somebody-else"):
        save(replace(default_artifact(), tendencies={user: Tendency(0.7, 5.0)}), tmp_path / user)
        service = build(LspOptions(backend="scripted", gate=tmp_path / user)).service
        service.begin("test", "1")
        service.opened("file:///a.py", "python", 1, "sum(")
        asyncio.run(service.suggest(service.capture("file:///a.py", 0, 4, Encoding.UTF16, Trigger.AUTOMATIC)))
        estimates[user] = service.why(None)["decision"]["fields"]["p1"]
    assert estimates[mine] == pytest.approx(Tendency(0.7).applied(estimates["somebody-else"]))
    assert estimates[mine] > estimates["somebody-else"]


def written(own_home: Path, requests: list[LoggedRequest], late: timedelta) -> Repository:
    """The log of these requests, as if they had happened so much later."""
    own_home.mkdir()
    log = Repository(default_database_url(own_home))
    for one in requests:
        outcome = None if one.outcome is None else replace(one.outcome, at=one.outcome.at + late)
        decision = replace(one.decision, at=one.decision.at + late)
        records = (one.session, one.context, decision, one.suggestion, outcome)
        log.append(record for record in records if record is not None)
    return log


async def test_drift_in_the_log_is_found_by_the_running_server_and_forgotten_when_it_is_over(own_home: Path) -> None:
    """The database holds what a gate said that was far too sure; then it holds nothing of the sort."""
    requests = list(World(users=8, requests_per_user=40, seed=7).requests(artifact=knowing(shift=2.5)))
    log = written(own_home, requests, datetime.now(UTC) - requests[-1].decision.at - timedelta(hours=1))
    application = build(LspOptions(backend="scripted"))
    watching = asyncio.ensure_future(watch_for_drift(application, asyncio.Event(), 0.0, 0.01))
    try:
        await until(lambda: "gate-calibrate --promote" in application.service.status()["message"])
        assert application.service.status()["kind"] == "Warning"
        for user in {one.session.user_key for one in requests}:
            log.erase(user)
        await until(lambda: application.service.status()["message"] == "Ready.")
    finally:
        watching.cancel()
        log.close()


async def test_a_log_that_cannot_be_read_does_not_end_the_watch(own_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    no_database(own_home)
    application = build(LspOptions(backend="scripted"))
    watching = asyncio.ensure_future(watch_for_drift(application, asyncio.Event(), 0.0, 0.01))
    try:
        await until(lambda: sum("could not be looked through" in record.getMessage() for record in caplog.records) >= 2)
        assert not watching.done()
    finally:
        watching.cancel()


def no_database(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "coderl.db").write_text("This is a letter to my grandmother.\n" * 100)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (what is waited for is said by nobody)
            await asyncio.sleep(0.02)
