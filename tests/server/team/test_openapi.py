"""The OpenAPI document and the server, told apart by Schemathesis: every operation, what it allows and what it does not.

The seed is printed; CODERL_SEED=N plays it again.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from coderl_server.team.connections import TimedConnection
from coderl_server.team.settings import Limits, TeamSettings
from coderl_store.home import home

from .conftest import NDJSON, built, lines, some_records

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 20
"""Of each operation and mode."""
SEED = int(os.environ.get("CODERL_SEED") or random.SystemRandom().getrandbits(32))
pytestmark = pytest.mark.timeout(1200)


@schemathesis.serializer(NDJSON)
def as_it_is(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


schemathesis.openapi.media_type(NDJSON, st.one_of(st.binary(max_size=300), st.builds(lambda: lines(some_records(3)))))


@pytest.fixture
def url(either_database: str) -> Iterator[str]:
    """A server on a port of loopback, in a thread, that is asked as often as one likes."""
    team = built(home(), TeamSettings(limits=Limits(requests_per_s=1e6, burst=10**6, refused_per_s=1e6)))
    server = uvicorn.Server(uvicorn.Config(team.application, http=TimedConnection, lifespan="on", log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_every_operation_answers_as_the_document_says(url: str, mode: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    print(f"CODERL_SEED={SEED}")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    document = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
    asked = 0
    for found in document.get_all_operations():
        operation = found.ok()
        generation_mode = schemathesis.GenerationMode[mode]

        @seed(SEED)
        @hypothesis_settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=generation_mode))
        def conforms(case: schemathesis.Case) -> None:
            nonlocal asked
            response = case.call(base_url=url)
            asked += 1
            case.validate_response(response, checks=checks)

        try:
            conforms()
        except Exception as error:
            if "Unsatisfiable" in type(error).__name__ and mode == "NEGATIVE":
                continue  # an operation without anything that could be wrong
            raise
    assert asked > EXAMPLES
