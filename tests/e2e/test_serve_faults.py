"""`coderl serve` among faults, as processes: nothing acknowledged is lost, nothing is doubled, every client is answered."""

from __future__ import annotations

import contextlib
import resource
import threading
import time

import pytest
from tests.postgres import PostgresServer

from coderl_store.dialect import open_engine, writing
from coderl_store.records import Record
from coderl_store.schema import HEAD, current_revision, upgrade

from .test_serve import Server, body_of, ids_of, records, serving, wait_until_stored

pytestmark = pytest.mark.timeout(1200)


class Clients:
    """Some programmers whose editors send a batch after the other; each answer is kept."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.sent: list[Record] = []
        self.statuses: list[int] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with self._server.client as client:
            while not self._stop.wait(0.2):
                batch = records(10)
                status = client.post("/v1/records", content=body_of(batch)).status_code
                with self._lock:
                    self.statuses.append(status)
                    self.sent += batch


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_database_that_is_stopped_and_comes_back(
    postgres_server: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setenv("CODERL_DATABASE_URL", postgres_server.url(postgres_database))
    with serving() as server:
        with Clients(server, 3) as clients:
            while len(clients.statuses) < 3:  # each is known to the server
                time.sleep(0.05)
            postgres_server.stop()
            before = len(clients.statuses)
            time.sleep(seconds)
            meanwhile = len(clients.statuses) - before
            with server.client as client:
                assert client.get("/readyz").json() == {"ready": False, "database": "unreachable", "spool": "ok"}
                assert client.get("/v1/audit").status_code == 503
            postgres_server.start()
            time.sleep(1)
        assert set(clients.statuses) == {200}
        assert meanwhile > 0
        assert wait_until_stored(len(clients.sent)) == ids_of(clients.sent)


@pytest.mark.usefixtures("either_database")
def test_a_disk_that_is_full_is_said_and_what_was_acknowledged_stays() -> None:
    """The kernel's limit on the size of files, set on the running server, stands in for the disk."""
    acknowledged, refused, later = records(50), records(50), records(50)
    with serving() as server, server.client as client:
        assert client.post("/v1/records", content=body_of(acknowledged)).status_code == 200
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, hard))
        for _ in range(3):
            answer = client.post("/v1/records", content=body_of(refused))
            assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "2")
        assert client.get("/readyz").json()["spool"] == "unwritable"
        assert client.get("/healthz").status_code == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        for batch in (refused, later):
            assert client.post("/v1/records", content=body_of(batch)).json() == {"accepted": 50, "rejected": []}
        assert wait_until_stored(150) == ids_of([*acknowledged, *refused, *later])


@pytest.mark.usefixtures("either_database")
def test_clients_that_never_hear_the_answer_send_again() -> None:
    batches = [records(30) for _ in range(20)]
    with serving("--workers", "2") as server:
        for batch in batches:
            body = body_of(batch)
            server.half_sent(body, len(body)).close()  # all of it was sent, and nobody waits
        with server.client as client:
            for batch in [*batches, *batches[::2]]:
                assert client.post("/v1/records", content=body_of(batch)).json() == {"accepted": 30, "rejected": []}
        everything = ids_of([record for batch in batches for record in batch])
        assert wait_until_stored(len(everything)) == everything


@pytest.mark.parametrize("revision", [None, "0001"])
def test_two_servers_that_migrate_at_once_both_serve(either_database: str, revision: str | None) -> None:
    engine = open_engine(either_database)
    try:
        if revision is not None:
            with writing(engine) as connection:
                upgrade(connection, revision)
        batches = [records(20), records(20)]
        with contextlib.ExitStack() as stack:
            starting = [serving(), serving()]
            servers: list[Server | None] = [None, None]

            def start(index: int) -> None:
                servers[index] = stack.enter_context(starting[index])

            threads = [threading.Thread(target=start, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for server, batch in zip(servers, batches, strict=True):
                assert server is not None
                with server.client as client:
                    assert client.post("/v1/records", content=body_of(batch)).json()["accepted"] == 20
                    assert client.get("/readyz").json()["ready"]
            assert wait_until_stored(40) == ids_of([record for batch in batches for record in batch])
        assert current_revision(engine) == HEAD
    finally:
        engine.dispose()
