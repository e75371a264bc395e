"""What a training says while it runs: a bar on a terminal, few lines elsewhere, never anything on standard output."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from coderl_store.clock import VirtualClock
from coderl_trainer.progress import Progress, clock_time


def test_without_a_terminal_a_line_every_few_steps_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), VirtualClock()
    with Progress(25, every=10, stream=stream, clock=clock) as progress:
        for step in range(1, 26):
            clock.advance_to(clock.now_s() + 4)
            progress.update({"step": step, "reward": step / 100, "solve/visible": 0.5 if step > 10 else None})
    assert stream.getvalue().splitlines() == [
        "step 10/25 · reward 0.100 · 1:00 left",
        "step 20/25 · reward 0.200 · solved 50.0% · 0:20 left",
        "step 25/25 · reward 0.250 · solved 50.0% · 0:00 left",
    ]


def test_a_step_without_a_reward_says_its_loss() -> None:
    stream = io.StringIO()
    with Progress(3, every=1, stream=stream, clock=VirtualClock()) as progress:
        progress.update({"loss": 1.25})
        progress.update({"loss": -0.5, "logged/seconds": 0.25})
        progress.update({"loss": None})
    said = [line.split(" · ")[1:-1] for line in stream.getvalue().splitlines()]
    assert said == [["loss 1.250"], ["loss -0.500", "saves +0.25 s a suggestion"], ["loss –"]]


def test_a_run_that_goes_on_expects_only_the_rest() -> None:
    clock = VirtualClock()
    with Progress(100, done=90, stream=io.StringIO(), clock=clock) as progress:
        assert progress.left_s is None
        clock.advance_to(clock.now_s() + 3)
        progress.update({})
        assert progress.left_s == 27.0


def test_the_time_left_follows_the_last_steps() -> None:
    clock = VirtualClock()
    progress = Progress(1000, stream=io.StringIO(), clock=clock)
    for seconds in [100.0] * 30 + [1.0] * 20:
        clock.advance_to(clock.now_s() + seconds)
        progress.update({"reward": None})
    assert progress.left_s == pytest.approx(950.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_times_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


CODE = """
from coderl_trainer.progress import Progress
with Progress(3) as progress:
    for step in range(3):
        progress.say("[b]a note[/b]")
        progress.update({"reward": 0.25, "solve/visible": 0.5})
"""


def test_on_a_terminal_there_is_a_bar_on_standard_error() -> None:
    parent, child = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        run = subprocess.run(
            [sys.executable, "-c", CODE],
            stdout=subprocess.PIPE,
            stderr=child,
            text=True,
            timeout=60,
            check=True,
            env=environment,
        )
        os.set_blocking(parent, False)
        shown = os.read(parent, 100_000).decode()
    finally:
        os.close(parent)
        os.close(child)
    assert run.stdout == ""
    assert "3/3" in shown
    assert "reward 0.250 · solved 50.0%" in shown
    assert "━" in shown
    assert "[b]a note[/b]" in shown


def test_elsewhere_there_is_no_bar() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == ""
    assert "\x1b" not in run.stderr
    assert "━" not in run.stderr
    assert run.stderr.count("step 3/3") == 1
