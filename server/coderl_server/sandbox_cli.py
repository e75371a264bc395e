"""`coderl sandbox`: whether programs of others are held back here, and the jail as a service."""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Annotated, Any

import typer

from .errors import InputError

sandbox_app = typer.Typer(no_args_is_help=True, help="Where programs of others run: check it, or offer it to others.")

_BACKEND = "bwrap, or none (no jail; only harmless attacks are run)."
_BECAUSE = "In words: why programs may run without a jail. Needed for --backend none."


@sandbox_app.callback()
def root() -> None:
    """Where programs of others run: check it, or offer it to others."""


@sandbox_app.command()
def check(
    backend: Annotated[str, typer.Option(help=_BACKEND)] = "bwrap",
    unjailed_because: Annotated[str, typer.Option(help=_BECAUSE)] = "",
    parallel: Annotated[int, typer.Option(help="Attacks at a time.", min=1)] = os.cpu_count() or 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Run every known attack on the judge; each has to end without a reward and leave the judge in order."""
    from rich.console import Console
    from rich.progress import Progress

    from coderl_generator.jail import open_jail
    from coderl_trainer.attacks import ATTACKS, check_attacks

    if backend not in ("bwrap", "none"):
        raise InputError(f"--backend must be bwrap or none, not {backend!r}.")
    if backend == "none" and not unjailed_because.strip():
        raise InputError("--backend none needs --unjailed-because: say in words why programs may run without a jail.")
    jail = open_jail(backend, unjailed_because=unjailed_because)
    attacks = [attack for attack in ATTACKS if backend == "bwrap" or attack.harmless]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("attacks", total=len(attacks))
        report = check_attacks(
            jail,
            attacks,
            parallel=parallel,
            unjailed_because=unjailed_because,
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _render(report, Console())
    raise typer.Exit(1 if report.beaten else 0)


def _render(report: Any, console: Any) -> None:
    """One line per attack that won, and what is in force."""
    for one in report.attacks:
        if one.beaten:
            console.print(f"• {one.name}: reward {one.reward:.2f}. {one.note or 'The judge is in order.'}", highlight=False)
    console.print(f"{len(report.attacks)} attacks, {report.beaten} of them won something.", highlight=False)
    console.print(f"In force: {', '.join(report.guarantees)}.", highlight=False)


@sandbox_app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = any free one, which is printed.", min=0, max=65535)] = 8080,
    parallel: Annotated[int, typer.Option(help="Programs at a time.", min=1)] = os.cpu_count() or 1,
    processes: Annotated[int, typer.Option(help="Processes that a program may start beside itself.", min=0)] = 0,
    open_to_network: Annotated[
        bool, typer.Option("--open-to-network", help="Allow an address that other machines reach; there is no password.")
    ] = False,
) -> None:
    """Sandbox Fusion's POST /run_code and GET /v1/ping, answered by this machine's jail."""
    from coderl_generator.jail import open_jail

    from .sandbox_server import listen, sandbox_server

    if not _loopback(host) and not open_to_network:
        raise InputError(f"--host {host} can be reached by other machines, without a password: add --open-to-network.")
    application = sandbox_server(open_jail(), parallel=parallel, processes=processes)
    listen(application, host, port, lambda address: typer.echo(f"listening on {address}", err=True))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
