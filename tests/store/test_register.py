"""Tokens, audit rows and agreements in the database; and the streams of one user."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.members import Audit, Role, Token
from coderl_store.records import Incident, Origin, Session, Severity
from coderl_store.register import Register
from coderl_store.repository import Repository

NOW = utc(VirtualClock().now_s())
TOKEN = Token("abc", NOW, Role.INGEST, "ada", "key-of-ada", "00" * 32)
CREATED = Audit("1", NOW, "console", "token.created", "abc")


@pytest.fixture
def register(repository: Repository) -> Register:
    return Register(repository.engine)


def test_a_token_comes_back_and_is_revoked_once(register: Register) -> None:
    assert not register.any_token()
    expiring = replace(TOKEN, id="def", expires_at=NOW + timedelta(days=1))
    register.add_token(TOKEN, CREATED)
    register.add_token(expiring, replace(CREATED, id="2", subject="def"))
    assert (register.token("abc"), register.token("def"), register.token("ghi")) == (TOKEN, expiring, None)
    later = NOW + timedelta(hours=1)
    revoked = Audit("3", later, "console", "token.revoked", "abc")
    assert register.revoke("abc", later, revoked)
    assert not register.revoke("abc", later, replace(revoked, id="4"))
    assert not register.revoke("ghi", later, replace(revoked, id="5"))
    assert register.tokens() == [replace(TOKEN, revoked_at=later), expiring]
    assert [audit.id for audit in register.audits()] == ["3", "2", "1"]
    assert register.any_token()


def test_a_token_lives_until_it_expires_or_is_revoked() -> None:
    assert TOKEN.live(NOW + timedelta(days=3650))
    expiring = replace(TOKEN, expires_at=NOW + timedelta(seconds=1))
    assert expiring.live(NOW)
    assert not expiring.live(NOW + timedelta(seconds=1))
    assert not replace(TOKEN, revoked_at=NOW).live(NOW)


def test_an_agreement_is_given_and_taken_back(register: Register) -> None:
    register.agree("ada", NOW)
    register.agree("ada", NOW + timedelta(days=1))
    register.agree("bob", NOW)
    assert register.agreed() == {"ada", "bob"}
    register.disagree("ada")
    assert register.agreed() == {"bob"}


def test_a_user_sees_own_rows_only(repository: Repository, register: Register) -> None:
    ids = IdSource(VirtualClock())
    sessions = {user: Session(ids.new(), NOW, Origin.SIMULATED, user) for user in ("ada", "bob")}
    incidents = {user: Incident(ids.new(), NOW, one.id, Severity.INFO, "c", "m") for user, one in sessions.items()}
    repository.append([*sessions.values(), *incidents.values()])
    for user in sessions:
        assert list(repository.stream(Session, user_key=user)) == [sessions[user]]
        assert list(repository.stream(Incident, user_key=user)) == [incidents[user]]
    assert list(repository.stream(Incident, user_key="carl")) == []
    assert list(repository.stream(Session, user_key="ada", origins=[Origin.EDITOR])) == []
    assert register.users() == {"ada": 1, "bob": 1}
