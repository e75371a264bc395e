"""`coderl serve` with a model, as a process that is told to leave."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from .test_serve import serving

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sigterm_lets_a_stream_end_and_leaves_without_a_word(workers: str, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": {"text": "word " * 40, "delay_ms": 50}}))
    options = ("--backend", "scripted", "--script", str(script), "--workers", workers)
    with serving(*options) as server, server.client as client:
        asked = {"prompt": "x", "stream": True, "max_tokens": 400}
        with client.stream("POST", "/v1/completions", json=asked, headers={"Content-Type": "application/json"}) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            server.process.send_signal(signal.SIGTERM)
            events = [line[6:] for line in (first, *lines) if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "word " * 40
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert server.process.wait(300) in (0, -signal.SIGTERM)
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        with pytest.raises(httpx.HTTPError):
            client.get("/healthz")
