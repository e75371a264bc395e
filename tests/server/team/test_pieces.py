"""The pure pieces: buckets, unpacking, tokens."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.team.buckets import Buckets
from coderl_server.team.problems import Problem
from coderl_server.team.rights import RIGHTS, Right, id_in, matches, mint
from coderl_server.team.settings import TeamSettings, is_loopback
from coderl_server.team.unpacking import Unpacker
from coderl_store.members import Role

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 20), st.integers(1, 20))
def test_nobody_takes_more_than_burst_and_rate(gaps: list[float], per_s: float, burst: int) -> None:
    buckets = Buckets(per_s, burst)
    times = list(itertools.accumulate(gaps))
    taken = [time_s for time_s in times if buckets.take("a", time_s) == 0]
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first + 1 <= burst + (taken[last] - taken[first]) * per_s + 1e-6


@given(st.floats(0.1, 20), st.integers(1, 5))
def test_who_waits_as_told_is_served(per_s: float, burst: int) -> None:
    buckets, now_s = Buckets(per_s, burst), 0.0
    for _ in range(burst + 3):
        told_s = buckets.wait_s("a", now_s)
        wait_s = buckets.take("a", now_s)
        assert wait_s == pytest.approx(told_s)
        if wait_s:
            now_s += wait_s + 1e-9
            assert buckets.take("a", now_s) == 0


def test_buckets_forget_the_oldest_only() -> None:
    buckets = Buckets(0.001, 1, most_keys=2)
    assert [buckets.take(key, 0.0) for key in "ab"] == [0, 0]
    assert buckets.take("b", 0.0) > 0
    assert buckets.take("c", 0.0) == 0  # "a" is forgotten
    assert buckets.take("b", 0.0) > 0
    assert buckets.take("a", 0.0) == 0


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50), st.booleans())
def test_what_was_packed_is_unpacked_in_pieces_of_any_size(members: list[bytes], size: int, packed: bool) -> None:
    body = b"".join(gzip.compress(member) if packed else member for member in members)
    unpacker = Unpacker(gzip=packed, most_bytes=2000)
    for start in range(0, len(body), size):
        unpacker.feed(body[start : start + size])
    assert unpacker.end() == b"".join(members)


@given(st.binary(min_size=1, max_size=400), st.data())
def test_nothing_is_unpacked_beyond_the_limit(content: bytes, data: st.DataObject) -> None:
    limit = data.draw(st.integers(0, len(content) - 1))
    unpacker = Unpacker(gzip=True, most_bytes=limit)
    with pytest.raises(Problem) as refusal:
        unpacker.feed(gzip.compress(content))
    assert refusal.value.status_code == 413


def test_a_bomb_is_given_up_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    unpacker = Unpacker(gzip=True, most_bytes=1000)
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as refusal:
            unpacker.feed(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.value.status_code == 413
    assert peak_bytes < 1_000_000


@given(st.binary(max_size=100))
def test_garbage_is_a_problem_and_nothing_else(garbage: bytes) -> None:
    unpacker = Unpacker(gzip=True, most_bytes=1000)
    with contextlib.suppress(Problem):  # anything else would be a 500
        unpacker.feed(garbage)
        unpacker.end()


def test_a_token_matches_itself_only_and_is_not_in_what_is_stored() -> None:
    one, other = (mint(Role.INGEST, "ada", "key", NOW) for _ in range(2))
    assert id_in(one.text) == one.token.id != other.token.id
    assert matches(one.token, one.text)
    assert not matches(one.token, other.text)
    assert not matches(one.token, one.text + "x")
    secret = one.text.removeprefix(f"coderl_{one.token.id}_")  # which may hold underscores itself
    assert len(secret) == 43
    assert secret not in repr(one.token)


def test_the_smallest_set_of_rights() -> None:
    assert all({Right.OWN, Right.MODELS} <= rights for rights in RIGHTS.values())
    assert {role for role in Role if Right.WRITE in RIGHTS[role]} == {Role.INGEST}
    assert {role for role in Role if Right.MANAGE in RIGHTS[role]} == {Role.ADMIN}
    assert Right.AGGREGATES not in RIGHTS[Role.INGEST]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_told_from_the_network(host: str, loopback: bool) -> None:
    assert is_loopback(host) is TeamSettings(host=host).loopback is loopback
    assert "" not in TeamSettings(host=host).allowed_hosts
