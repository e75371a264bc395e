"""The language service on a workbench: a virtual clock, a scripted generator, a gate of known judgement, a log in memory."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from coderl_gate.artifact import GateArtifact, StageModel
from coderl_gate.costs import CostParameters
from coderl_gate.gate import Gate
from coderl_gate.policy import Rule as DecisionRule
from coderl_gate.quantiles import OnlineQuantiles, reference_table
from coderl_gate.scorer import LinearScorer
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_server.asked import Shown
from coderl_server.cli import main
from coderl_server.documents import Change
from coderl_server.intervene import Intervener
from coderl_server.positions import Encoding
from coderl_server.service import LanguageService
from coderl_server.session import Identity
from coderl_server.settings import Settings
from coderl_store.clock import VirtualClock
from coderl_store.ids import IdSource
from coderl_store.memory import MemoryLog
from coderl_store.records import Context, Decision, Incident, Outcome, Privacy, Suggestion, Trigger

URI = "file:///project/module.py"


def stage(p: float, names: tuple[str, ...] = ()) -> StageModel:
    """A model that says `p` whatever it sees."""
    zeros = (0.0,) * len(names)
    ones = (1.0,) * len(names)
    return StageModel(LinearScorer(names, zeros, zeros, ones, zeros, intercept=math.log(p / (1 - p))))


class Workbench:
    """One service and everything it was built from."""

    def __init__(
        self,
        *,
        p1: float = 0.4,
        p2: float = 0.9,
        text: str = "values)",
        rule: Rule | None = None,
        decides: str = "entropy",
        backend: Any = ScriptedBackend,
        gate: Callable[[Gate], Gate] = lambda gate: gate,
        seed: int = 0,
        hung_s: float = 10.0,
        patient: bool = False,
        warnings: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.ids = IdSource(self.clock, random.Random(seed))
        self.log = MemoryLog(Privacy.CODE)
        self.backend = backend
        if backend is ScriptedBackend:
            self.backend = ScriptedBackend(self.clock, Script(default=rule or Rule(text=text)))
        generator_id = "" if self.backend is None else self.backend.generator_id
        artifact = GateArtifact(
            stage(p1), stage(p2), h_bits=0.5, costs=CostParameters(), data_hash="t", created_at="2026-11-20T00:00:00Z"
        )
        self.gate = gate(
            Gate(artifact, generator_id, OnlineQuantiles(generator_id, random.Random(seed), reference_table(generator_id)))
        )
        self.service = LanguageService(
            identity=Identity("session", "user", b"salt" * 8),
            intervener=Intervener(self.gate, self.backend, self.clock, self.ids, hung_s=hung_s, patient=patient),
            log=self.log,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(seed),
            settings=Settings(
                **{
                    "rule": DecisionRule(decides),
                    "epsilon_skip": 0.0,
                    "epsilon_withhold": 0.0,
                    "max_debounce_ms": 0.0,  # nobody moves the clock while a request is answered
                    "privacy": Privacy.CODE,
                    **settings,
                }
            ),
            backend=self.backend,
            warnings=warnings or {},
        )
        self.told: list[str] = []
        self.recorded: list[str] = []
        self.service.begin("bench", "1")
        self.service.ready(self.told.append, self.recorded.extend)

    def open(self, text: str = "sum(", uri: str = URI, language: str = "python") -> str:
        self.service.opened(uri, language, 1, text)
        return uri

    def type(self, text: str, line: int, character: int, uri: str = URI) -> None:
        self.service.changed(uri, None, [Change((line, character, line, character), text)], Encoding.UTF16)

    def capture(self, line: int = 0, character: int = 4, *, invoked: bool = False, uri: str = URI) -> Any:
        trigger = Trigger.INVOKED if invoked else Trigger.AUTOMATIC
        return self.service.capture(uri, line, character, Encoding.UTF16, trigger)

    def ask(self, line: int = 0, character: int = 4, *, invoked: bool = False, uri: str = URI) -> Shown | None:
        asked = self.capture(line, character, invoked=invoked, uri=uri)
        return asyncio.run(self.service.suggest(asked))

    def later(self, seconds: float) -> None:
        """Time passes, with a heartbeat at its end."""
        self.clock.advance_to(self.clock.now_s() + seconds)
        self.service.tick()

    def rows(self, kind: type) -> list[Any]:
        return [record for record in self.log.records if type(record) is kind]

    @property
    def decision(self) -> Decision:
        return self.rows(Decision)[-1]

    @property
    def suggestion(self) -> Suggestion:
        return self.rows(Suggestion)[-1]

    @property
    def outcomes(self) -> list[Outcome]:
        return self.rows(Outcome)

    @property
    def incidents(self) -> list[Incident]:
        return self.rows(Incident)

    @property
    def context(self) -> Context:
        return self.rows(Context)[-1]


@pytest.fixture(scope="session")
def workbench() -> type[Workbench]:
    """The class: each test builds its own."""
    return Workbench


@pytest.fixture
def coderl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["coderl", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run
