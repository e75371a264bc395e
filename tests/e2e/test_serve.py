"""`coderl serve` as processes, killed and restarted: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from coderl_server.team.connections import TimedConnection
from coderl_store.clock import SystemClock, utc
from coderl_store.codec import encode
from coderl_store.home import StoreSettings
from coderl_store.ids import IdSource
from coderl_store.records import Incident, Origin, Record, Session, Severity
from coderl_store.repository import Repository

CLI = (sys.executable, "-m", "coderl_server")
pytestmark = pytest.mark.timeout(1200)  # each process takes as long to start as the machine is busy
HEADERS = {"Content-Type": "application/x-ndjson"}


@dataclass
class Server:
    process: subprocess.Popen[str]
    line: str
    port: int

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300, headers=HEADERS)

    def half_sent(self, body: bytes, sent: int) -> socket.socket:
        """A connection on which the head and `sent` bytes of the body were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=300)
        head = f"POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:sent])
        return connection


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    process = subprocess.Popen([*CLI, "serve", "--port", "0", *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+:(\d+) ", line)
        assert found, line
        yield Server(process, line, int(found[1]))
    finally:
        process.kill()
        process.communicate()


def records(count: int) -> list[Record]:
    clock = SystemClock()
    ids = IdSource(clock)
    session = Session(ids.new(), utc(clock.now_s()), Origin.SIMULATED, "u")
    return [session, *(Incident(ids.new(), session.at, session.id, Severity.INFO, "c", "m") for _ in range(count - 1))]


def body_of(batch: Sequence[Record]) -> bytes:
    return "".join(encode(record) + "\n" for record in batch).encode()


def stored_ids() -> list[str]:
    repository = Repository(StoreSettings.from_environment().database_url)
    try:
        return sorted(record.id for kind in (Session, Incident) for record in repository.stream(kind))
    finally:
        repository.close()


def ids_of(batch: Sequence[Record]) -> list[str]:
    return sorted(record.id for record in batch)


def wait_until_stored(count: int, longest_s: float = 300) -> list[str]:
    give_up_s = time.monotonic() + longest_s
    while len(found := stored_ids()) < count and time.monotonic() < give_up_s:
        time.sleep(0.2)
    return found


@pytest.mark.usefixtures("either_database")
def test_a_thousand_records_twice_then_a_kill_in_the_middle_of_a_batch_and_a_retry() -> None:
    batch = records(1000)
    with serving() as server:
        assert "1 worker, no tokens: open to every program of this machine" in server.line
        with server.client as client:
            for _ in range(2):
                assert client.post("/v1/records", content=body_of(batch)).json() == {"accepted": 1000, "rejected": []}
        middle, unread = records(300), records(300)
        connections = [
            server.half_sent(body_of(middle), len(body_of(middle)) // 2),
            server.half_sent(body_of(unread), len(body_of(unread))),
        ]
        server.process.kill()
        server.process.wait()
        for connection in connections:
            connection.close()
    with serving() as server, server.client as client:
        found = wait_until_stored(1000)  # without being sent again
        assert set(ids_of(batch)) <= set(found) <= set(ids_of([*batch, *unread]))
        for lost in (middle, unread, batch):
            assert client.post("/v1/records", content=body_of(lost)).json()["rejected"] == []
        assert wait_until_stored(1600) == ids_of([*batch, *middle, *unread])


def test_sigterm_answers_what_is_in_progress_and_says_one_line_only() -> None:
    batch = records(50)
    body = body_of(batch)
    with serving() as server:
        with server.client as client:
            assert client.get("/readyz").json()["ready"]
        with server.half_sent(body, 100) as connection:
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(body[100:])
            answer = connection.recv(65536).decode()
        assert answer.startswith("HTTP/1.1 200 "), answer
        assert server.process.wait(300) in (0, -signal.SIGTERM)
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    assert stored_ids() == ids_of(batch)


@pytest.mark.slow
@pytest.mark.usefixtures("either_database")
def test_two_workers_behind_one_port_one_of_them_killed(tmp_path: Path) -> None:
    with serving("--workers", "2") as server, server.client as client:
        assert "2 workers" in server.line
        sent: list[Record] = []
        for index in range(20):
            batch = records(20)
            with server.client as fresh:  # a new connection each: either worker may take it
                assert fresh.post("/v1/records", content=body_of(batch)).json()["accepted"] == 20
            sent += batch
            if index == 10:
                os.kill(worker_of(server.process.pid), signal.SIGKILL)
        assert wait_until_stored(len(sent)) == ids_of(sent)
        figures = client.get("/metrics").text
        assert re.search(r'coderl_records_total\{outcome="accepted"\} \d+', figures)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0


@pytest.mark.slow
def test_workers_leave_when_their_supervisor_is_killed() -> None:
    with serving("--workers", "2") as server:
        with server.client as client:
            assert client.get("/healthz").status_code == 200
        server.process.kill()
        server.process.wait()
        give_up_s = time.monotonic() + 300
        while time.monotonic() < give_up_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", server.port)) != 0:
                    return
            time.sleep(0.2)
        pytest.fail("The port is still held.")


def worker_of(parent: int) -> int:
    """A worker process (not multiprocessing's own helper, which started before it)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return workers[0]


@pytest.mark.slow
def test_who_never_sends_the_head_is_let_go() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        slow.settimeout(TimedConnection.head_s * 6)
        assert slow.recv(100) == b""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.usefixtures("either_database")
def test_the_network_needs_tokens_and_tokens_are_made_on_the_command_line() -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "there is no token: make one with `coderl token create --role ingest --user NAME`" in refused.stderr
    made = json.loads(run("token", "create", "--role", "ingest", "--user", "ada", "--days", "7", "--json").stdout)
    with serving("--host", "0.0.0.0", "--name", "team.example") as server, server.client as client:
        assert "1 token" in server.line
        assert client.get("/v1/me").status_code == 401
        headers = {"Authorization": f"Bearer {made['token']}", "Host": f"team.example:{server.port}"}
        assert client.get("/v1/me", headers=headers).json()["user_key"] == made["user_key"]
        assert run("token", "revoke", made["id"]).returncode == 0
        listed = json.loads(run("token", "list", "--json").stdout)
        assert [(one["user"], one["state"]) for one in listed] == [("ada", "revoked")]
        assert made["token"] not in json.dumps(listed)
    assert run("token", "revoke", made["id"]).returncode == 2
    assert run("token", "create", "--role", "king", "--user", "ada").returncode == 2
