"""`coderl sandbox`: the jail over a real socket, asked by our own client and by hand, and the check of the attacks."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from coderl_generator.errors import JailFailed, JailUnavailable
from coderl_generator.jail import Jail, Job, Limits, Status, open_jail
from coderl_generator.jail_run_code import RunCodeJail
from coderl_trainer.errors import JailMissing
from coderl_trainer.judge import Judge

CODERL = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of `coderl sandbox serve`, started as a process of its own."""
    try:
        open_jail()
    except JailUnavailable as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "coderl_server", "sandbox", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = _line(process, 120)
            assert line.startswith("listening on "), line
            yield "http://" + line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.wait(30)


def _line(process: subprocess.Popen[str], limit_s: float) -> str:
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        assert selector.select(limit_s), f"the server said nothing in {limit_s} s"
        return process.stderr.readline()


@pytest.fixture(scope="module")
def remote(server: str) -> Iterator[Jail]:
    jail = RunCodeJail(server)
    yield jail
    jail.close()


def post(server: str, **body: object) -> dict[str, object]:
    answer = httpx.post(f"{server}/run_code", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    said: dict[str, object] = answer.json()
    return said


def test_ping(server: str) -> None:
    assert httpx.get(f"{server}/v1/ping", timeout=60).json() == "pong"


def test_run_code_in_the_form_of_sandbox_fusion(server: str) -> None:
    said = post(server, code="print(input(), open('d/x').read())", language="python", stdin="in", files={"d/x": "ZmlsZQ=="})
    result = said.pop("run_result")
    assert isinstance(result, dict)
    assert result.pop("execution_time") > 0
    assert result == {"status": "Finished", "return_code": 0, "stdout": "in file\n", "stderr": ""}
    assert said == {"status": "Success", "message": "", "compile_result": None, "executor_pod_name": None, "files": {}}


@pytest.mark.parametrize(
    ("body", "status", "result"),
    [
        ({"code": "import sys; sys.exit(3)"}, "Failed", ("Finished", 3)),
        ({"code": "exit 4", "language": "bash"}, "Failed", ("Finished", 4)),
        ({"code": "import time; time.sleep(60)", "run_timeout": 0.5}, "Failed", ("TimeLimitExceeded", None)),
        ({"code": "while True: print('x' * 9999)"}, "Failed", ("Finished", 137)),
        ({"code": "x = bytearray(1 << 30)", "memory_limit_MB": 200}, "Failed", ("Finished", 1)),
        ({"code": "x", "language": "cobol"}, "SandboxError", None),
        ({"code": "x", "fetch_files": ["a"]}, "SandboxError", None),
        ({"code": "x", "files": {"a": "!"}}, "SandboxError", None),
        ({"code": "x", "files": {"../a": ""}}, "SandboxError", None),
    ],
)
def test_how_runs_end(server: str, body: dict[str, object], status: str, result: tuple[str, int | None] | None) -> None:
    said = post(server, **body)
    assert said["status"] == status
    ran = said["run_result"]
    assert (ran if ran is None else (ran["status"], ran["return_code"])) == result  # type: ignore[index]
    assert (said["message"] == "") == (status == "Success")


def test_the_client_gives_what_the_jail_gives(remote: Jail) -> None:
    ran = remote.run(Job(files={"main.py": b"import sys\nprint(input())\nsys.exit(2)", "x": b"y"}, stdin=b"in"), Limits())
    assert (ran.status, ran.returncode, ran.stdout, ran.guarantees) == (Status.FINISHED, 2, b"in\n", frozenset())
    assert remote.run(Job(files={"main.py": b"while True: pass"}), Limits(wall_s=0.5)).status is Status.TIMED_OUT
    assert remote.run(Job(argv=("/bin/echo", "a b")), Limits()).stdout == b"a b\n"
    with pytest.raises(JailFailed, match="no name of a file"):
        remote.run(Job(files={"../x": b""}), Limits())


def test_the_judge_wants_more_than_a_server_can_say(remote: Jail) -> None:
    with pytest.raises(JailMissing, match="run_code"):
        Judge(remote)
    with pytest.raises(JailFailed, match="cannot be talked with"):
        remote.converse(compile("1", "x", "exec"), Limits())


def test_a_server_that_is_not_there_is_said() -> None:
    for endpoint in ("http://127.0.0.1:9", "http://[", "no address"):
        with pytest.raises(JailUnavailable, match="No server that runs code"):
            open_jail("run_code", endpoint=endpoint)


def test_input_that_cannot_be_used(coderl: CODERL) -> None:
    for options, word in (
        (("check", "--backend", "docker"), "bwrap or none"),
        (("check", "--backend", "none"), "--unjailed-because"),
        (("serve", "--host", "0.0.0.0"), "--open-to-network"),
    ):
        code, out, err = coderl("sandbox", *options)
        assert (code, out) == (2, "")
        assert word in err
        assert "Traceback" not in err


def test_the_check_reports_what_wins_without_a_jail(coderl: CODERL) -> None:
    code, out, _ = coderl("sandbox", "check", "--backend", "none", "--unjailed-because", "a test of the check", "--json")
    assert code == 1
    report = json.loads(out)
    assert report["beaten"] == sum(one["reward"] > 0 or not one["harness_healthy"] for one in report["attacks"]) >= 8
    assert "no_network" not in report["guarantees"]
