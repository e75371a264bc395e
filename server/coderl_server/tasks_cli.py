"""`coderl tasks`: whether tasks can be trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError

if TYPE_CHECKING:
    from coderl_trainer.checking import Checked
    from coderl_trainer.judge import Judge

tasks_app = typer.Typer(no_args_is_help=True, help="Tasks that models are trained and measured on.")


@tasks_app.callback()
def root() -> None:
    """Tasks that models are trained and measured on."""


@tasks_app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Files of tasks, or `shipped`.")],
    leave_out: Annotated[Path | None, typer.Option(help="A file of task ids to leave out, one per line.")] = None,
    parallel: Annotated[int, typer.Option(help="Programs that are judged at a time.", min=1)] = os.cpu_count() or 1,
    unjailed_because: Annotated[
        str, typer.Option(help="In words: why programs may run without a jail, where there is none.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Run every reference (it must pass), an empty answer and constants (they must not), and list the bad tasks; exit code 1
    where there are any."""
    from rich.console import Console

    from coderl_trainer.errors import JailMissing, TaskError
    from coderl_trainer.judge import open_judge

    try:
        ids = frozenset(leave_out.read_text(encoding="utf-8").split()) if leave_out else frozenset()
        with open_judge(parallel=parallel, unjailed_because=unjailed_because, ungraded_limit=1.0) as judge:
            checked = _checked(judge, files, ids)
    except (OSError, UnicodeDecodeError, TaskError, JailMissing) as error:
        raise InputError(f"{error}") from error
    if as_json:
        typer.echo(json.dumps(checked.to_json(), indent=2))
    else:
        checked.render(Console())
    raise typer.Exit(0 if checked.good else 1)


@tasks_app.command()
def repairs(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Files of tasks, or `shipped`.")],
    out: Annotated[Path, typer.Option(help="Where the repairs go, JSON Lines.")],
    seed: Annotated[int, typer.Option(help="Of the bugs that are put into right programs.")] = 0,
    unjailed_because: Annotated[
        str, typer.Option(help="In words: why programs may run without a jail, where there is none.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")] = False,
) -> None:
    """Make broken repositories for `--env repair`: wrong versions that the data brings, or bugs put into references; hidden
    tests fail before and pass after."""
    from coderl_trainer.errors import JailMissing, TaskError
    from coderl_trainer.repair.tasks import write_repairs

    from .repair_tasks import repairs_of

    try:
        made = repairs_of(files, seed=seed, unjailed_because=unjailed_because)
        write_repairs(made.repairs, out)
    except (TaskError, JailMissing) as error:
        raise InputError(f"{error}") from error
    if as_json:
        typer.echo(json.dumps({"repairs": len(made.repairs), "left_out": made.left_out, "out": str(out)}, indent=2))
        return
    for name, why in made.left_out.items():
        typer.echo(f"• {name} is left out: {why}.")
    typer.echo(f"{len(made.repairs)} repairs in {out}.")


def _checked(judge: Judge, files: list[str], leave_out: frozenset[str]) -> Checked:
    from rich.console import Console
    from rich.progress import Progress

    from coderl_trainer.checking import check_files
    from coderl_trainer.grading import JudgeGrader

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("answers")
        grader = JudgeGrader(judge, lambda done, of: progress.update(bar, completed=done, total=of))
        return check_files(files, grader, leave_out=leave_out)
