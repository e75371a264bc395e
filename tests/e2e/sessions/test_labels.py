"""Counterfactual labels of whole simulated sessions against the truth: what the programmer really typed next is the file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.artifact import GateArtifact, StageModel, save
from coderl_gate.costs import CostParameters
from coderl_gate.scorer import LinearScorer
from coderl_gate.silence import check
from coderl_server.simulate import SimulateOptions, run
from coderl_server.simulate.programmer import Take, judge
from coderl_store.codec import encode
from coderl_store.records import Action, Origin, Privacy
from coderl_store.repository import LoggedRequest, Repository
from coderl_store.shadow import ShadowVerdict

KEPT = (ShadowVerdict.WOULD_KEEP, ShadowVerdict.WOULD_KEEP_PART)


@dataclass(frozen=True)
class Session:
    """A finished session: its log, and the text that was typed."""

    home: Path
    text: str

    def requests(self) -> list[LoggedRequest]:
        repository = Repository(f"sqlite:///{self.home / 'coderl.db'}")
        try:
            return list(repository.requests(origins=[Origin.SIMULATED]))
        finally:
            repository.close()

    def truth(self, request: LoggedRequest) -> Take:
        """What the simulated programmer would have done, had the suggestion been shown."""
        assert request.suggestion is not None
        assert request.suggestion.text is not None
        assert request.context.offset_chars is not None
        return judge(request.suggestion.text, self.text[request.context.offset_chars :]).take


@pytest.fixture
def silent_gate(tmp_path: Path) -> Path:
    """Always generates, never shows."""

    def constant(logit: float) -> StageModel:
        return StageModel(LinearScorer((), (), (), (), (), logit))

    artifact = GateArtifact(constant(0.0), constant(-9.0), 0.0, CostParameters(), "by hand", "2026-11-20T00:00:00+00:00")
    save(artifact, tmp_path / "silent")
    return tmp_path / "silent"


@pytest.fixture
def session(tmp_path: Path, source: Path, oracle: Callable[..., Path], silent_gate: Path) -> Callable[..., Session]:
    """Types the source five times over, in five files, into a server that is silent."""
    text = source.read_text(encoding="utf-8")
    files = tuple(tmp_path / f"copy{n}.py" for n in range(5))
    for file in files:
        file.write_text(text, encoding="utf-8")

    def made(script_error: float = 0.15, **options: Any) -> Session:
        home = tmp_path / "home"
        chosen = {
            "files": files,
            "seed": 1,
            "backend": "scripted",
            "script": oracle(script_error),
            "gate": silent_gate,
            "epsilon_skip": 0.0,
            "epsilon_withhold": 0.0,
            "home": home,
            "privacy": "code",
            **options,
        }
        run(SimulateOptions(**chosen))
        return Session(home, text)

    return made


def test_labels_agree_with_what_the_programmer_would_have_done(session: Callable[..., Session]) -> None:
    done = session()
    pairs: Counter[tuple[bool, bool]] = Counter()
    for request in done.requests():
        assert request.decision.action is Action.WITHHOLD
        if request.shadow is not None and request.shadow.verdict is not ShadowVerdict.UNKNOWN:
            pairs[done.truth(request) is not Take.NOTHING, request.shadow.verdict in KEPT] += 1
    assert min(pairs[True, True], pairs[False, False]) > 10  # both kinds were there
    assert pairs[True, True] + pairs[False, False] >= 0.95 * pairs.total(), pairs


def test_labels_of_shown_suggestions_agree_with_their_outcomes(session: Callable[..., Session]) -> None:
    done = session(rule="always_show", script_error=0.4)
    requests = done.requests()
    taken = [one for one in requests if one.outcome is not None and one.outcome.accepted_chars]
    assert taken
    assert all(one.shadow is None for one in taken)  # what was inserted was not typed
    found = check(requests)
    assert found.rejected > 10
    assert found.agreement is not None
    assert found.agreement >= 0.9, found


def test_replay_says_what_silence_cost_only_when_asked(session: Callable[..., Session], silent_gate: Path) -> None:
    done = session(privacy="metrics")  # numbers are enough
    command = [sys.executable, "-m", "coderl_server", "replay", "--gate", str(silent_gate), "--include-simulated", "--json"]
    command += ["--database", f"sqlite:///{done.home / 'coderl.db'}"]

    def answer(*more: str) -> dict[str, Any]:
        finished = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 0, finished.stderr
        content: dict[str, Any] = json.loads(finished.stdout)
        return content

    plain, labelled = answer(), answer("--shadow-labels")
    silence = labelled.pop("silence")
    assert labelled == plain
    assert silence["withheld"] == plain["n"]
    assert silence["typed_anyway"]["estimate"] > 0.5  # the generator is mostly right, and the gate hid all of it
    assert silence["chars"] > 0
    assert silence["net_s"]["estimate"] > 0


def test_no_code_reaches_the_log_with_a_label(session: Callable[..., Session]) -> None:
    done = session(privacy=Privacy.METRICS.value)
    labelled = [request for request in done.requests() if request.shadow is not None]
    assert labelled
    words = set(re.findall(r"\w{5,}", done.text))
    written = "".join(encode(request.shadow) for request in labelled if request.shadow is not None)
    assert not {word for word in words if word in written}
