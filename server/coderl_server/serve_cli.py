"""`coderl serve` and `coderl token`: the team server, and who may use it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError

token_app = typer.Typer(no_args_is_help=True, help="Who may use the team server.")

Database = Annotated[str | None, typer.Option(help="SQLAlchemy URL of the log; default: SQLite in the data folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on. One that other machines reach needs tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = any free one, which is printed.", min=0, max=65535)] = 8766,
    workers: Annotated[int, typer.Option(help="Processes behind the port.", min=1, max=64)] = 1,
    database: Database = None,
    privacy: Annotated[str | None, typer.Option(help="Most that is recorded here: metrics or code.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A further name under which clients reach this server (may be repeated).")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Serve a model too: llamacpp, openai, scripted, or a dotted path. Default: none.")
    ] = None,
    model: Annotated[str, typer.Option(help="`active`, `embedded`, a GGUF file, or its name at the endpoint.")] = "active",
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server, for --backend openai.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Name of the environment variable that holds the endpoint's key.")] = "",
    template: Annotated[str, typer.Option(help="Prompt template of the model; default: what fits it.")] = "",
    script: Annotated[Path | None, typer.Option(help="The script of --backend scripted.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the embedded model.", min=1)] = None,
    at_once: Annotated[int | None, typer.Option(help="Streams at the model at once, per worker.", min=1, max=10_000)] = None,
    min_group: Annotated[int, typer.Option(help="Programmers in the smallest group whose figures are shown.", min=1)] = 5,
    keep_days: Annotated[
        int | None, typer.Option(help="Delete records that are older, once a day; default: keep all.", min=1, max=36_500)
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of trainings that the dashboard shows.")] = Path("runs"),
    log_level: Annotated[str, typer.Option(help="Of the messages on standard error.")] = "warning",
) -> None:
    """The team server: many editors, one log. Ends on SIGTERM after the requests in progress."""
    import logging

    from coderl_store.home import StoreSettings
    from coderl_store.records import Privacy

    from .backends import GeneratorOptions
    from .team.generation import Served
    from .team.settings import TeamSettings
    from .team.workers import serve as serve_team

    levels = logging.getLevelNamesMapping()
    if log_level.upper() not in levels:
        raise InputError(f"--log-level must be one of {', '.join(level.lower() for level in levels)}, not {log_level!r}.")
    store = StoreSettings.from_environment(database, privacy)
    if store.privacy is Privacy.OFF:
        raise InputError("A team server that records nothing is of no use: --privacy metrics or --privacy code.")
    settings = TeamSettings(
        host=host,
        port=port,
        workers=workers,
        names=tuple(name or ()),
        min_group=min_group,
        keep_days=keep_days,
        runs=runs.absolute(),
    )
    served = None
    if backend is not None:
        generator = GeneratorOptions(backend, model, endpoint, api_key_env, script, threads)
        served = Served(generator, template, at_once)
    elif endpoint or script or model != "active":
        raise InputError("Name the kind of model with --backend too, such as --backend llamacpp.")
    serve_team(settings, store, lambda line: typer.echo(line, err=True), levels[log_level.upper()], served)


@token_app.callback()
def root() -> None:
    """Who may use the team server."""


@token_app.command()
def create(
    role: Annotated[str, typer.Option(help="ingest (an editor), read (figures of groups) or admin (manages).")],
    user: Annotated[str, typer.Option(help="Name of the programmer or service. Their rows bear a keyed hash of it.")],
    days: Annotated[int | None, typer.Option(help="Days until it expires; default: never.", min=1, max=36_500)] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, once. Who has it is taken for the user."""
    from coderl_store.members import Role

    from .team.tokens import Tokens

    if role not in [one.value for one in Role]:
        raise InputError(f"--role must be one of {', '.join(one.value for one in Role)}, not {role!r}.")
    if not 0 < len(user.strip()) <= 200 or not user.isprintable():
        raise InputError("--user must be a name of 1 to 200 printable characters.")
    with Tokens.opened(database) as tokens:
        minted = tokens.create(Role(role), user.strip(), None if days is None else timedelta(days=days))
    if as_json:
        typer.echo(json.dumps({"token": minted.text, **_row(minted.token)}, indent=2))
        return
    typer.echo(minted.text)
    typer.echo(f"This is the only time that it is shown. It is {minted.token.id} in `coderl token list`.", err=True)


@token_app.command("list")
def list_tokens(database: Database = None, as_json: AsJson = False) -> None:
    """All tokens, without their secrets."""
    from .team.tokens import Tokens

    with Tokens.opened(database) as tokens:
        rows = [{**_row(token), "state": tokens.state(token)} for token in tokens.all()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "role", "user", "user key", "made", "expires", "state")
    for row in rows:
        table.add_row(
            row["id"], row["role"], row["user"], row["user_key"], row["at"][:10], (row["expires_at"] or "")[:10], row["state"]
        )
    Console().print(table)


@token_app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="As `coderl token list` shows it.")], database: Database = None
) -> None:
    """A token opens nothing any more. A running server knows it within seconds."""
    from .team.tokens import Tokens

    with Tokens.opened(database) as tokens:
        if not tokens.revoke(token_id):
            raise InputError(f"There is no token {token_id} that is not revoked already: see `coderl token list`.")
    typer.echo(f"{token_id} is revoked.")


def _row(token: Any) -> dict[str, Any]:
    return {
        "id": token.id,
        "role": token.role.value,
        "user": token.name,
        "user_key": token.user_key,
        "at": token.at.isoformat(),
        "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
        "revoked_at": None if token.revoked_at is None else token.revoked_at.isoformat(),
    }
