"""`coderl train`, `coderl sft`: the commands that change a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .training import TrainOptions

Recipe = Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="A TOML file, or `small`; see docs/training.md.")]
Tasks = Annotated[
    list[str] | None, typer.Option(help="A file of tasks, or `shipped`, not those of the recipe (may be repeated).")
]
Engine = Annotated[str | None, typer.Option(help="What moves the weights: local, tinker, trl; default: that of the recipe.")]
Model = Annotated[str | None, typer.Option(help="embedded, a GGUF file, a folder; for tinker a base model's name.")]
Name = Annotated[str | None, typer.Option(help="What the run is called.")]
Runs = Annotated[Path, typer.Option(help="The folder that holds runs.")]
Change = Annotated[list[str] | None, typer.Option("--set", help="key=value, such as grpo.steps=5 (may be repeated).")]
Resume = Annotated[Path | None, typer.Option(help="Go on with this run after its last checkpoint.")]
Unjailed = Annotated[str, typer.Option(help="In words: why generated programs may run without a jail, where there is none.")]
FromLog = Annotated[bool, typer.Option("--from-log", help="Learn from logged suggestions, not from tasks.")]
Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")]
Simulated = Annotated[bool, typer.Option("--include-simulated", help="With --from-log: simulated sessions too.")]
Gate = Annotated[Path | None, typer.Option(help="With --from-log: a gate's folder as critic; default: the logged estimates.")]
Env = Annotated[str, typer.Option(help="repair: learn from an agent that repairs repositories; see docs/agent.md.")]
Agent = Annotated[str | None, typer.Option(help="With --env repair: the agent's command; default: simplecoder.")]
Scaffold = Annotated[str | None, typer.Option(help="With --env repair: nano or full.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]


def train(
    recipe: Recipe = None,
    tasks: Tasks = None,
    engine: Engine = None,
    model: Model = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    change: Change = None,
    resume: Resume = None,
    from_log: FromLog = False,
    database: Database = None,
    include_simulated: Simulated = False,
    gate: Gate = None,
    env: Env = "",
    agent: Agent = None,
    scaffold: Scaffold = None,
    unjailed_because: Unjailed = "",
    as_json: AsJson = False,
) -> None:
    """Fine-tune the generator: supervised warm-up, then GRPO on programs that really run."""
    _end_with(
        TrainOptions(
            recipe=recipe,
            changes=tuple(change or ()),
            tasks=tuple(tasks or ()),
            engine=engine,
            model=model,
            name=name,
            runs=runs,
            resume=resume,
            from_log=from_log,
            database=database,
            include_simulated=include_simulated,
            gate=gate,
            env=env,
            agent=agent,
            scaffold=scaffold,
            unjailed_because=unjailed_because,
        ),
        as_json,
    )


def sft(
    recipe: Recipe = None,
    tasks: Tasks = None,
    engine: Engine = None,
    model: Model = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    change: Change = None,
    resume: Resume = None,
    unjailed_because: Unjailed = "",
    as_json: AsJson = False,
) -> None:
    """The supervised warm-up alone, on references and kept text."""
    _end_with(
        TrainOptions(
            recipe=recipe,
            changes=tuple(change or ()),
            tasks=tuple(tasks or ()),
            engine=engine,
            model=model,
            name=name,
            runs=runs,
            resume=resume,
            sft_only=True,
            unjailed_because=unjailed_because,
        ),
        as_json,
    )


def _end_with(options: TrainOptions, as_json: bool) -> None:
    import json

    from rich.console import Console

    from .training import train

    done = train(options)
    if done is None:
        return
    if as_json:
        typer.echo(json.dumps(done.to_json(), indent=2))
    else:
        done.render(Console())
