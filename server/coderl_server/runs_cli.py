"""`coderl runs`: what was trained here, and the page of one run made anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from .errors import InputError

if TYPE_CHECKING:
    from coderl_trainer.run_reading import Summary

DEFAULT: Final = Path("runs")


class _ListsByDefault(TyperGroup):
    """`coderl runs DIR` means `coderl runs list DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args != ["--help"] and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


runs_app = typer.Typer(cls=_ListsByDefault, no_args_is_help=False, help="What was trained here; without a command: list.")


@runs_app.command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder that holds runs, or one run.")] = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Every run with how it ended, its steps, and the means of its last ten steps."""
    from coderl_trainer.errors import RunError
    from coderl_trainer.run_reading import list_runs

    try:
        found = list_runs(folder)
    except RunError as error:
        raise InputError(f"{error}") from error
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "runs": [run.to_json() for run in found]}, indent=2))
    else:
        _render(folder, found)


@runs_app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of one run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the page's path.")] = False,
) -> None:
    """Write plots/ and report.html of a run anew from its files; also while it still runs, and after it was killed."""
    from coderl_trainer.errors import RunError
    from coderl_trainer.report import write

    try:
        written = write(run)
    except RunError as error:
        raise InputError(f"{error}") from error
    if as_json:
        typer.echo(json.dumps(written.to_json(), indent=2))
        return
    typer.echo(str(written.report))
    for warning in written.warnings:
        typer.echo(f"• {warning}", err=True)


def _render(folder: Path, found: Sequence[Summary]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not found:
        console.print(f"No runs in {folder}.", highlight=False, markup=False, soft_wrap=True)
        return
    table = Table(title="Runs, oldest first; means of the last ten steps", title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("status")
    for heading in ("steps", "time", "reward", "visible", "hidden", "best"):
        table.add_column(heading, justify="right")
    for run in found:
        table.add_row(*_cells(run))
    console.print(table)
    for run in found:
        if run.reason:
            console.print(f"• {run.path.name}: {run.reason}", highlight=False, markup=False, soft_wrap=True)


def _cells(run: Summary) -> list[str]:
    from rich.markup import escape

    from coderl_trainer.progress import clock_time

    colour = {"finished": "green", "running": "cyan"}.get(run.status, "red")
    best = (run.best or {}).get("step")
    return [
        escape(run.path.name),
        f"[{colour}]{escape(run.status)}[/]",
        str(run.steps),
        "–" if run.time_s is None else clock_time(run.time_s),
        "–" if run.reward is None else f"{run.reward:.3f}",
        *("–" if share is None else f"{share:.1%}" for share in (run.solve_visible, run.solve_hidden)),
        "–" if best is None else f"step {best}",
    ]
