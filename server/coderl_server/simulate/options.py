"""What a simulation is told, checked before anything starts."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from types import MappingProxyType

from coderl_gate.costs import CostParameters
from coderl_gate.errors import ArtifactError
from coderl_gate.policy import Rule
from coderl_generator.errors import GeneratorError
from coderl_generator.registry import factory_of
from coderl_generator.scripted import Script
from coderl_store.home import StoreSettings, default_database_url
from coderl_store.records import Privacy

from ..errors import InputError
from .programmer import Key, PauseHabits, choose_region, plan

_LANGUAGES = MappingProxyType(
    {
        ".py": "python",
        ".pyi": "python",
        ".js": "javascript",
        ".ts": "typescript",
        ".rs": "rust",
        ".go": "go",
        ".c": "c",
    }
)


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """One simulated session: one server, one programmer, the files one after another. Raises InputError for impossible
    values."""

    files: tuple[Path, ...]
    seed: int = 0
    """Same seed, same files, same options: same session, to the last digit and with the same ids (`identity`). (The embedded
    model runs in its repeatable mode.)"""
    chars_per_second: float = 5.0
    max_requests: int | None = None
    """At most this many requests per file, a seeded sample of its pauses; None = ask at every pause."""
    max_chars: int | None = None
    """Type at most this many characters per file: whole lines from a seeded line on, the rest of the file is there already."""
    latency_ms: float = 150.0
    """How long after the request a suggestion is on the screen, on the virtual clock. Nothing shown costs nothing. A suggestion
    that would come after the pause has ended is never seen (`late` in the report)."""
    dismiss_probability: float = 0.2
    """Share of the rejected suggestions that are dismissed with Esc; over the others the programmer types on."""
    costs: CostParameters | None = None
    """Reading time, and the seconds in the report. None = the default parameters at the speed `chars_per_second`."""
    habits: PauseHabits = field(default_factory=PauseHabits)
    backend: str = "llamacpp"
    model: str | None = None
    script: Path | None = None
    """For the scripted backend."""
    gate: Path | None = None
    """A gate artifact; None = the active one of the home folder, else the shipped one."""
    rule: str = "entropy"
    eagerness: float = 0.0
    epsilon_skip: float | None = None
    """None = the server's own default; so for `epsilon_withhold`."""
    epsilon_withhold: float | None = None
    home: Path | None = None
    """Where the log goes (`CODERL_HOME`); None = as the environment says."""
    privacy: str | None = None
    """None = as the environment says."""
    keep_open: bool = False
    """Let ten more minutes of virtual time pass before a document is closed, so that every survival row gets written."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """More settings for the server, in their wire names; they win over the fields above."""
    server_command: tuple[str, ...] | None = None
    """Another server to start instead of this installation's `coderl lsp`; it gets no arguments from here."""

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError("Name at least one file to type.")
        for name, value, low in (
            ("chars per second", self.chars_per_second, 0.1),
            ("max requests", self.max_requests, 0),
            ("max chars", self.max_chars, 1),
            ("latency in ms", self.latency_ms, 0),
        ):
            if value is not None and not low <= value < float("inf"):
                raise InputError(f"The number of {name} must be at least {low:g}, not {value}.")
        if not 0 <= self.dismiss_probability <= 1:
            raise InputError(f"The share of dismissals must lie between 0 and 1, not {self.dismiss_probability}.")
        for what, told, choices in (("rule", self.rule, Rule), ("privacy level", self.privacy, Privacy)):
            if told is not None and told not in [member.value for member in choices]:
                raise InputError(f"The {what} must be one of {', '.join(choices)}, not {told!r}.")
        self._check_backend()

    def _check_backend(self) -> None:
        if self.server_command is not None:
            return
        if self.backend == "openai":
            raise InputError(
                "The backend openai needs an endpoint, which a simulation cannot pass on: take llamacpp, scripted or the "
                "dotted path of a class."
            )
        try:
            factory_of(self.backend)
            if self.backend == "scripted" and self.script is not None:
                Script.from_json(self.script)
        except GeneratorError as error:
            raise InputError(f"{error}.") from error

    @property
    def cost_parameters(self) -> CostParameters:
        """The cost model in force."""
        try:
            return self.costs or CostParameters(typing_chars_per_s=self.chars_per_second)
        except ArtifactError as error:
            raise InputError(str(error)) from error

    def store(self) -> StoreSettings:
        """The log that the server will write. Raises InputError or the store's SettingsError where it cannot be used."""
        if self.home is None:
            return StoreSettings.from_environment(privacy=self.privacy)
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The data folder {self.home} cannot be used ({error.strerror or error}): name one you may write to."
            ) from error
        folder = self.home.resolve()
        return replace(StoreSettings.from_environment(default_database_url(folder), self.privacy), home=folder)

    def command(self, session_id: str | None = None) -> list[str]:
        """The server's command line."""
        if self.server_command is not None:
            return list(self.server_command)
        command = [sys.executable, "-m", "coderl_server", "lsp", "--clock", "client", "--seed", str(self.seed)]
        command += ["--origin", "simulated", "--backend", self.backend]
        for flag, value in (("--model", self.model), ("--script", self.script), ("--gate", self.gate)):
            if value is not None:
                command += [flag, str(value)]
        if session_id is not None:
            command += ["--session-id", session_id]
        return command

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The server's environment."""
        named = {"CODERL_HOME": self.home, "CODERL_PRIVACY": self.privacy}
        if self.home is not None:
            # A log of its own was asked for: a database named elsewhere in the environment is not it.
            inherited = {name: value for name, value in inherited.items() if name != "CODERL_DATABASE_URL"}
        return {**inherited, **{name: str(value) for name, value in named.items() if value is not None}}

    def wire_settings(self) -> dict[str, object]:
        """The settings of `initializationOptions.coderl`."""
        chosen: dict[str, object | None] = {
            "rule": self.rule,
            "eagerness": self.eagerness,
            "epsilonSkip": self.epsilon_skip,
            "epsilonWithhold": self.epsilon_withhold,
            "privacy": self.privacy,
            "reportRecorded": True,
            # Generation takes real time while the session's clock stands still: a deadline would make sessions differ.
            "deadlineMs": 60_000,
        }
        return {**{name: value for name, value in chosen.items() if value is not None}, **self.settings}


@dataclass(frozen=True, slots=True)
class Typescript:
    """One file and how it will be typed."""

    path: Path
    text: str
    start: int
    """The part [start, end) of the text, in code points, is typed; what is around it is there from the beginning."""
    end: int
    keys: tuple[Key, ...]

    @property
    def uri(self) -> str:
        """The file's address in the protocol."""
        return self.path.absolute().as_uri()

    @property
    def language(self) -> str:
        """LSP language id by the file's suffix; an unknown suffix is its own id."""
        suffix = PurePath(self.path).suffix.lower()
        return _LANGUAGES.get(suffix, suffix.lstrip(".") or "plaintext")


def read_typescripts(options: SimulateOptions) -> list[Typescript]:
    """All files with their keys. Raises InputError with one sentence for a file that cannot be typed."""
    return [_typescript(path, index, options) for index, path in enumerate(options.files)]


def _typescript(path: Path, index: int, options: SimulateOptions) -> Typescript:
    text = _read(path)
    rng = random.Random(f"coderl simulate {options.seed} {index} {path.name}")
    start, end = choose_region(text, options.max_chars, rng)
    keys = plan(
        text[start:end],
        rng,
        chars_per_second=options.chars_per_second,
        habits=options.habits,
        max_requests=options.max_requests,
        dismiss_probability=options.dismiss_probability,
    )
    return Typescript(path, text, start, end, tuple(keys))


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The file {path} cannot be read: {error.strerror or error}.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The file {path} is not UTF-8 text (byte {error.start}), so nobody can type it.") from error
    if "\0" in text:
        raise InputError(f"The file {path} holds NUL bytes, so it is not text.")
    return text
