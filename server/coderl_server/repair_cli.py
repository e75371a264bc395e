"""The options of `coderl eval --env repair`, beside those that it shares with `coderl eval` on tasks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .errors import InputError

_SHARED = ("endpoint", "api_key_env", "samples", "limit", "seed", "out", "unjailed_because")
"""Options of both that mean the same."""
_EMBEDDED = "embedded"
"""The default of --model, which no agent can ask."""


@dataclass(frozen=True, slots=True)
class RepairFlags:
    """What only repairs know."""

    env: Annotated[str, typer.Option(help="repair: an agent repairs repositories of --tasks; see docs/agent.md.")] = ""
    agent: Annotated[str, typer.Option(help="With --env repair: the agent's command; default: simplecoder.")] = ""
    scaffold: Annotated[str, typer.Option(help="With --env repair: nano or full; --compare takes these names too.")] = "nano"
    max_steps: Annotated[int, typer.Option(help="With --env repair: steps of one run of the agent.", min=1)] = 20
    wall_s: Annotated[float, typer.Option(help="With --env repair: seconds of one run of the agent.", min=1)] = 600.0
    parallel: Annotated[int, typer.Option(help="With --env repair: runs at a time.", min=1)] = 2
    reads: Annotated[
        list[Path] | None, typer.Option(help="With --env repair: a folder that agents may read (may be repeated).")
    ] = None
    attacks: Annotated[
        bool, typer.Option("--attacks", help="With --env repair: run every known attack; each must win nothing.")
    ] = False


def with_repairs(evaluate: Callable[..., None]) -> Callable[..., None]:
    """`coderl eval` with these options too; typer reads them from the signature."""
    names = [one.name for one in fields(RepairFlags)]

    def command(**given: Any) -> None:
        flags = RepairFlags(**{name: given.pop(name) for name in names})
        if flags.env or flags.attacks:
            _repairs(flags, given)
        else:
            evaluate(**given)

    own, more = (get_type_hints(one, include_extras=True) for one in (evaluate, RepairFlags))
    parameters = [
        parameter.replace(annotation=own[name]) for name, parameter in inspect.signature(evaluate).parameters.items()
    ] + [
        inspect.Parameter(one.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=one.default, annotation=more[one.name])
        for one in fields(RepairFlags)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__, command.__name__ = evaluate.__doc__, evaluate.__name__
    command.__annotations__ = {**own, **more}
    return command


def _repairs(flags: RepairFlags, given: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from .repair_reports import render_attacks
    from .repairing import RepairOptions, attack_repairs, evaluate_repairs

    if flags.env != "repair":
        raise InputError(f"--env must be repair, not {flags.env!r}." if flags.env else "--attacks needs --env repair.")
    options = RepairOptions(
        tasks=tuple(given["tasks"] or ()),
        model="" if given["model"] == _EMBEDDED else given["model"],
        agent=flags.agent,
        scaffold=flags.scaffold,
        max_steps=flags.max_steps,
        wall_s=flags.wall_s,
        parallel=flags.parallel,
        reads=tuple(flags.reads or ()),
        **{name: given[name] for name in _SHARED},
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, Any] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=of)
            progress.update(bars[what], completed=done)

        if not flags.attacks:
            report = evaluate_repairs(options, given["compare"], told)
        else:
            attacked = attack_repairs(options, told)
    if not flags.attacks:
        typer.echo(json.dumps(report.to_json(), indent=2)) if given["as_json"] else report.render(Console())
        return
    typer.echo(json.dumps(attacked.to_json(), indent=2)) if given["as_json"] else render_attacks(attacked, Console())
    raise typer.Exit(1 if attacked.beaten else 0)
