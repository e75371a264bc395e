"""Back-up and restore as docs/operations.md says it, with a server that goes on taking records meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import postgres
from tests.postgres import PostgresServer

from coderl_store.records import Incident, Record, Session
from coderl_store.repository import Repository

from .test_serve import Server, body_of, ids_of, records, run, serving, wait_until_stored

pytestmark = pytest.mark.timeout(1200)


@contextmanager
def busy(server: Server, sent: list[Record], **headers: str) -> Iterator[None]:
    """Batches go on being sent while the block runs; each is in `sent` once it is answered."""
    stop = threading.Event()

    def send() -> None:
        with server.client as client:
            while not stop.is_set():
                batch = records(20)
                assert client.post("/v1/records", content=body_of(batch), headers=headers).json()["accepted"] == 20
                sent.extend(batch)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ids_in(url: str) -> list[str]:
    """Of the rows of a database that is not made where it is missing."""
    repository = Repository(url, create=False)
    try:
        return sorted(record.id for kind in (Session, Incident) for record in repository.stream(kind))
    finally:
        repository.close()


@pytest.mark.parametrize("way", ["VACUUM INTO", "backup"])
def test_sqlite_is_copied_while_it_is_written_and_the_copy_serves(own_home: Path, tmp_path: Path, way: str) -> None:
    copy = tmp_path / "copy.db"
    before = records(200)
    meanwhile: list[Record] = []
    with serving() as server:
        with server.client as client:
            assert client.post("/v1/records", content=body_of(before)).json()["accepted"] == 200
        wait_until_stored(200)
        with busy(server, meanwhile):
            source = sqlite3.connect(f"file:{own_home / 'coderl.db'}?mode=ro", uri=True)
            if way == "backup":
                target = sqlite3.connect(copy)
                source.backup(target)
                target.close()
            else:
                source.execute("VACUUM INTO ?", [str(copy)])
            source.close()
    saved = ids_in(f"sqlite:///{copy}")
    assert set(ids_of(before)) <= set(saved) <= set(ids_of([*before, *meanwhile]))
    # The machine is lost with its disk; the salt was copied with the database.
    salt = (own_home / "salt").read_bytes()
    shutil.rmtree(own_home)
    own_home.mkdir(mode=0o700)
    copy.rename(own_home / "coderl.db")
    (own_home / "salt").write_bytes(salt)
    with serving() as server, server.client as client:
        assert wait_until_stored(len(saved)) == saved
        lost = [record for record in [*before, *meanwhile] if record.id not in set(saved)]
        later = [*lost, *records(10)]
        assert client.post("/v1/records", content=body_of(later)).json()["rejected"] == []
        assert wait_until_stored(len(saved) + len(later)) == sorted([*saved, *ids_of(later)])


def test_postgresql_is_dumped_while_it_is_written_and_restored_into_another_database(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = postgres.binaries()
    assert tools is not None
    if not (tools / "pg_dump").exists():
        pytest.skip("needs pg_dump: apt install postgresql-client")
    monkeypatch.setenv("CODERL_DATABASE_URL", postgres_server.url(postgres_database))
    before, dump = records(200), tmp_path / "coderl.dump"
    meanwhile: list[Record] = []
    token = run("token", "create", "--role", "ingest", "--user", "ada").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    connection = ["--host", str(postgres_server.folder), "--username", postgres.USER]
    with serving() as server:
        with server.client as client:
            assert client.post("/v1/records", content=body_of(before), headers=headers).json()["accepted"] == 200
        wait_until_stored(200)
        with busy(server, meanwhile, **headers):
            command = [tools / "pg_dump", *connection, "--format=custom", f"--file={dump}", postgres_database]
            subprocess.run(command, check=True, timeout=300)
    restored = postgres_server.add_database()
    try:
        subprocess.run([tools / "pg_restore", *connection, f"--dbname={restored}", dump], check=True, timeout=300)
        monkeypatch.setenv("CODERL_DATABASE_URL", postgres_server.url(restored))
        assert set(ids_of(before)) <= set(ids_in(postgres_server.url(restored))) <= set(ids_of([*before, *meanwhile]))
        with serving() as server, server.client as client:
            assert "1 token" in server.line
            assert client.get("/v1/me", headers=headers).json()["name"] == "ada"
    finally:
        postgres_server.drop_database(restored)
