"""`coderl train`, `coderl sft`: the commands that change a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path | None, typer.Argument(metavar="[RECIPE]", help="A TOML file; docs/training.md lists its keys.")]
Tasks = Annotated[
    list[str] | None, typer.Option(help="A file of tasks, or `shipped`, not those of the recipe (may be repeated).")
]
Model = Annotated[str | None, typer.Option(help="embedded, a GGUF file or a Hugging Face folder.")]
Name = Annotated[str | None, typer.Option(help="What the run is called.")]
Runs = Annotated[Path, typer.Option(help="The folder that holds runs.")]
Change = Annotated[list[str] | None, typer.Option("--set", help="key=value, such as grpo.steps=5 (may be repeated).")]
Resume = Annotated[Path | None, typer.Option(help="Go on with this run after its last checkpoint.")]
Unjailed = Annotated[str, typer.Option(help="In words: why generated programs may run without a jail, where there is none.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]


def train(
    recipe: Recipe = None,
    tasks: Tasks = None,
    model: Model = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    change: Change = None,
    resume: Resume = None,
    unjailed_because: Unjailed = "",
    as_json: AsJson = False,
) -> None:
    """Fine-tune the generator: supervised warm-up, then GRPO on programs that really run."""
    _run(recipe, tasks, model, name, runs, change, resume, unjailed_because, as_json, sft_only=False)


def sft(
    recipe: Recipe = None,
    tasks: Tasks = None,
    model: Model = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    change: Change = None,
    resume: Resume = None,
    unjailed_because: Unjailed = "",
    as_json: AsJson = False,
) -> None:
    """The supervised warm-up alone, on references and kept text."""
    _run(recipe, tasks, model, name, runs, change, resume, unjailed_because, as_json, sft_only=True)


def _run(
    recipe: Path | None,
    tasks: list[str] | None,
    model: str | None,
    name: str | None,
    runs: Path,
    change: list[str] | None,
    resume: Path | None,
    unjailed_because: str,
    as_json: bool,
    *,
    sft_only: bool,
) -> None:
    import json

    from rich.console import Console

    from .training import TrainOptions, train

    done = train(
        TrainOptions(
            recipe=recipe,
            changes=tuple(change or ()),
            tasks=tuple(tasks or ()),
            model=model,
            name=name,
            runs=runs,
            resume=resume,
            sft_only=sft_only,
            unjailed_because=unjailed_because,
        )
    )
    if as_json:
        typer.echo(json.dumps(done.to_json(), indent=2))
    else:
        done.render(Console())
