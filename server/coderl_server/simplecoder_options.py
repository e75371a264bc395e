"""The options of `simplecoder`, each once: what typer shows and what the command gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from coderl_generator.agent.scaffolds import Scaffold


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """None = not given: the recorded run's, where one is resumed, else the default of `RunConfig`."""

    task: Annotated[str, typer.Argument(help="What to do, or with --resume what to say next.")] = ""
    interactive: Annotated[bool, typer.Option("--interactive", help="After an answer, go on with what you say next.")] = False
    workspace: Annotated[Path, typer.Option(help="The folder that may be read.")] = Path()
    output_root: Annotated[Path | None, typer.Option(help="The folder in it that may be written; default: all.")] = None
    model: Annotated[
        str | None, typer.Option(help="Its name at --base-url; `embedded`, a GGUF file, or scripted:FILE without one.")
    ] = None
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server, up to and including /v1.")] = None
    api_key_env: Annotated[str, typer.Option(help="Name of the environment variable that holds the server's key.")] = ""
    protocol: Annotated[str, typer.Option(help="How tools are called: auto (native, else text), native, text.")] = "auto"
    scaffold: Annotated[Scaffold | None, typer.Option(help="full: all tools; nano: a shell and a patch.")] = None
    use_rag: Annotated[bool | None, typer.Option("--use-rag", help="Add a search by meaning, with citations.")] = None
    use_planning: Annotated[bool | None, typer.Option("--use-planning", help="Write a short plan first.")] = None
    non_interactive: Annotated[bool, typer.Option("--non-interactive", help="Ask nothing; deny what is not allowed.")] = False
    allow: Annotated[list[str] | None, typer.Option(help="write, shell, write:GLOB, shell:COMMAND; several by commas.")] = None
    deny: Annotated[list[str] | None, typer.Option(help="The same, and read:GLOB; stronger than --allow.")] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Write nothing, whoever allows it.")] = False
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Keep changes in memory and print the diff.")] = None
    forget_permissions: Annotated[bool, typer.Option("--forget-permissions", help="Forget what is allowed always.")] = False
    environment: Annotated[
        Path | None, typer.Option(help="Python environment that programs see in the jail; default: the active one.")
    ] = None
    unjailed_because: Annotated[str, typer.Option(help="Run programs without a jail, and why that is wanted.")] = ""
    test_command: Annotated[str | None, typer.Option(help="What runs the tests; default: pytest, else unittest.")] = None
    max_steps: Annotated[int | None, typer.Option(help="Replies of the model; default 30.", min=1)] = None
    max_tokens: Annotated[int | None, typer.Option(help="Tokens read and written, all replies together.", min=1)] = None
    max_seconds: Annotated[float | None, typer.Option(help="Wall time; default 1800.", min=1)] = None
    max_cost: Annotated[float | None, typer.Option(help="In the currency of --prices.", min=0)] = None
    prices: Annotated[str, typer.Option(help="PROMPT,REPLY: prices per million tokens.")] = ""
    context_tokens: Annotated[
        int | None, typer.Option(help="The model's context; default 8192 for embedded ones, else 32768.", min=512)
    ] = None
    compaction: Annotated[str | None, typer.Option(help="Where the context fills: auto (summarise), error, off.")] = None
    temperature: Annotated[float | None, typer.Option(help="0 = greedy, the default.", min=0, max=2)] = None
    seed: Annotated[int | None, typer.Option(help="For temperatures above 0.")] = None
    max_reply_tokens: Annotated[int | None, typer.Option(help="Longest reply; default 2048.", min=1)] = None
    capture_tokens: Annotated[
        bool, typer.Option("--capture-tokens", help="Ask the server for token ids and log-probs (vLLM).")
    ] = False
    trajectory: Annotated[Path | None, typer.Option(help="Where the run's record goes; default: the data folder.")] = None
    resume: Annotated[Path | None, typer.Option(help="Take up the run of this record.")] = None
    replay: Annotated[Path | None, typer.Option(help="Make this record's calls again, without a model.")] = None
    show: Annotated[Path | None, typer.Option(help="Print a record, with what compaction dropped.")] = None
    export_training: Annotated[Path | None, typer.Option(help="Print a record as rows to train on (JSON Lines).")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the answer.")] = False


def command_of(run: Callable[[Options], None]) -> Callable[..., None]:
    """A function that typer reads the options from."""
    hints = get_type_hints(Options, include_extras=True)

    def command(**given: Any) -> None:
        run(Options(**given))

    parameters = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(Options)
        if one.default is not MISSING
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    command.__doc__ = run.__doc__
    return command
