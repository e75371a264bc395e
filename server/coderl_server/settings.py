"""What the programmer may set: wire options (all optional, from the editor) → resolved `Settings` (nothing optional).

One bad key never costs the others: it is reported in a sentence, its default stays, the rest applies. Settings come with
`initialize` (`initializationOptions.coderl`) and live through `workspace/didChangeConfiguration` (`settings.coderl`).
On the wire the keys are camelCase.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coderl_gate.policy import Rule
from coderl_generator.globs import DEFAULT_SECRET_GLOBS
from coderl_store.records import Privacy

DEFAULT_LANGUAGES_OFF = ("markdown", "plaintext", "yaml", "help", "gitcommit", "git-commit", "gitrebase", "git-rebase", "log")
"""Prose and configuration, where peers start switched off too (copilot.lua `client/filetypes.lua`)."""


def _option(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
) -> Any:
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "unit": unit}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Resolved settings. Each field's metadata holds its sentence, unit and range; docs/settings.md is checked against it."""

    enabled: bool = _option(True, "The main switch.")
    languages: Mapping[str, bool] = _option(
        dict.fromkeys(DEFAULT_LANGUAGES_OFF, False),
        "Switch per LSP language id; what is not named is on. Merged with the default.",
    )
    disable_globs: tuple[str, ...] = _option((), "Paths where suggestions are off, gitignore style.")
    secret_globs: tuple[str, ...] = _option(
        DEFAULT_SECRET_GLOBS, "Files that are never read: no context, no log, no suggestion."
    )
    manual_only: bool = _option(False, "Suggest only when asked (invoked), never by itself.")
    min_idle_ms: float = _option(
        0.0, "Shortest pause after the last edit before a suggestion may come.", low=0, high=60_000, unit="ms"
    )
    max_debounce_ms: float = _option(
        300.0,
        "Longest that a generation waits for the next key; how long it does follows from your rhythm. 0: it never waits.",
        low=0,
        high=5_000,
        unit="ms",
    )
    eagerness: float = _option(0.0, "One dial: −1 speaks least, 0 is the gate's own judgement, 1 speaks most.", low=-1, high=1)
    adapt: bool = _option(
        True, "Let recent outcomes move the dial for a while: surplus rejections lower it, surplus acceptances raise it."
    )
    reuse: bool = _option(
        True, "Answer from memory, or from a generation under way, where what was typed agrees with it. Off only to measure."
    )
    work_ahead: bool = _option(
        True, "While nothing else runs, read the text before the cursor, and write what would follow a likely accept."
    )
    anchor: bool = _option(
        True, "Begin the text a generator reads at fixed steps, so that it finds it in its cache. Off only to measure."
    )
    max_suggestion_chars: int = _option(800, "Longer suggestions are withheld.", low=1, high=20_000, unit="characters")
    max_suggestion_lines: int = _option(20, "Suggestions of more lines are withheld.", low=1, high=1000, unit="lines")
    max_document_chars: int = _option(
        2_000_000, "Larger documents get no suggestions.", low=1, high=100_000_000, unit="characters"
    )
    cooldown_s: float = _option(5.0, "Quiet time after an explicit dismissal.", low=0, high=3600, unit="s")
    remember_rejections: int = _option(
        20, "How many rejected texts are remembered and not shown again at their place.", low=0, high=1000
    )
    privacy: Privacy = _option(
        Privacy.METRICS,
        "What is logged: off, metrics (numbers only) or code (text too).",
        choices=tuple(p.value for p in Privacy),
    )
    mode: str = _option(
        "auto",
        "Shape of a suggestion: line, block, or auto (by syntax and by which blocks were kept).",
        choices=("auto", "line", "block"),
    )
    max_tokens: int = _option(48, "Budget of the full route.", low=1, high=1024, unit="tokens")
    draft_max_tokens: int = _option(16, "Budget of the draft route (one greedy line).", low=1, high=256, unit="tokens")
    deadline_ms: float = _option(
        3000.0, "Longest generation; what stands complete at that moment counts.", low=10, high=60_000, unit="ms"
    )
    context_chars: int = _option(
        -1,
        "Most of the prompt that may come from other open documents. 0 = off; −1 = 1000 for models with a form for other "
        "files, else off.",
        low=-1,
        high=100_000,
        unit="characters",
    )
    context_ms: float = _option(
        20.0,
        "Longest that open documents are read for one request; the rest follows with the next.",
        low=0,
        high=5000,
        unit="ms",
    )
    temperature: float = _option(0.0, "Sampling temperature; 0 is greedy.", low=0, high=2)
    candidates: int = _option(
        1, "Candidates of the full route to choose from; the others are offered when suggestions are asked for.", low=1, high=8
    )
    rule: Rule = _option(
        Rule.ENTROPY,
        "Decision rule: entropy, or value (of information); always_show and never_show are for comparison.",
        choices=tuple(r.value for r in Rule),
    )
    epsilon_skip: float = _option(
        0.02, "Share of skipped requests that are generated anyway, so that the gate can learn.", low=0, high=1
    )
    epsilon_withhold: float = _option(
        0.02, "Share of withheld suggestions that are shown anyway, for the same reason.", low=0, high=1
    )
    explore_per_hour: int = _option(12, "Most such trials in one hour.", low=0, high=1_000_000)
    report_recorded: bool = _option(
        False, "Notify the client (`coderl/recorded`) of ids that are safely logged; for tests and tools."
    )


_DEFAULTS = Settings()


def wire_name(field_name: str) -> str:
    """`min_idle_ms` → `minIdleMs`."""
    return re.sub(r"_([a-z])", lambda m: m.group(1).upper(), field_name)


def resolve(wire: object, base: Settings = _DEFAULTS) -> tuple[Settings, list[str]]:
    """Apply wire options to `base`.

    Returns the settings and one sentence for every key that was not usable (unknown, wrong type, out of range).
    """
    if wire is None:
        return base, []
    if not isinstance(wire, Mapping):
        return base, [f"The coderl settings must be an object, not {type(wire).__name__}; they are ignored."]
    fields = {wire_name(field.name): field for field in dataclasses.fields(Settings)}
    changes: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in wire.items():
        field = fields.get(str(key))
        if field is None:
            problems.append(f"Unknown setting coderl.{str(key)[:100]}; it is ignored.")
            continue
        try:
            changes[field.name] = _convert(value, field, getattr(base, field.name))
        except ValueError as error:
            problems.append(f"Setting coderl.{key} {error}; it stays at {_readable(getattr(base, field.name))}.")
    return dataclasses.replace(base, **changes), problems


def _readable(value: object) -> str:
    return str(getattr(value, "value", value))


def _convert(value: object, field: dataclasses.Field[Any], current: object) -> object:
    """The value in the field's type. Raises ValueError with the end of a sentence ("must be …")."""
    choices = field.metadata["choices"]
    if choices:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {reprlib.repr(value)}")
        assert isinstance(current, str)
        return type(current)(value)
    if isinstance(current, bool):
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {reprlib.repr(value)}")
        return value
    if isinstance(current, (int, float)):
        return _number(value, field, whole=isinstance(current, int))
    if isinstance(current, tuple):
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise ValueError("must be a list of texts")
        return tuple(value)
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, bool) for k, v in value.items()):
        raise ValueError("must be an object of true/false values")
    return {**_as_mapping(current), **value}


def _as_mapping(value: object) -> Mapping[str, bool]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object, field: dataclasses.Field[Any], *, whole: bool) -> float | int:
    low, high, unit = field.metadata["low"], field.metadata["high"], field.metadata["unit"]
    wanted = f"must be a {'whole ' if whole else ''}number between {low:g} and {high:g}{' ' + unit if unit else ''}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:  # NaN is not between either
        raise ValueError(f"{wanted}, not {reprlib.repr(value)}")
    if whole and value != int(value):
        raise ValueError(f"{wanted}, not {value!r}")
    return int(value) if whole else float(value)
