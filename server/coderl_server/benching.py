"""`coderl bench`: measurements of this installation on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

bench_app = typer.Typer(no_args_is_help=True, help="Measure this installation on this machine.")


@bench_app.callback()
def root() -> None:
    """Measure this installation on this machine."""


@bench_app.command()
def latency(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Source files to type; default: modules of Python's own library.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same keys and pauses.")] = 0,
    chars_per_second: Annotated[float, typer.Option(help="Typing speed, in real time.")] = 5.0,
    max_chars: Annotated[int, typer.Option(help="Type at most this many characters per file.")] = 400,
    max_seconds: Annotated[float, typer.Option(help="Type for at most this long, both servers together.")] = 300.0,
    overhead_pairs: Annotated[int, typer.Option(help="Pairs of the server and the bare backend; 0 = none.")] = 30,
    plain: Annotated[bool, typer.Option(help="Type into a server without reuse and anchoring too, in turn.")] = True,
    backend: Annotated[str, typer.Option(help="llamacpp (embedded), openai, scripted, or a dotted path.")] = "llamacpp",
    model: Annotated[str, typer.Option(help="`embedded`, a GGUF file, or the model's name at the endpoint.")] = "embedded",
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server, for --backend openai.")] = "",
    script: Annotated[Path | None, typer.Option(help="The script of --backend scripted.")] = None,
    gate: Annotated[Path | None, typer.Option(help="A gate artifact's folder; default: the active one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """How long the programmer waits: real files, typed in real time into a real server."""
    from rich.console import Console

    from .latency import LatencyOptions, measure
    from .model_choice import model_file

    options = LatencyOptions(
        files=tuple(files or ()),
        seed=seed,
        chars_per_second=chars_per_second,
        max_chars=max_chars,
        max_seconds=max_seconds,
        overhead_pairs=overhead_pairs,
        plain=plain,
        backend=backend,
        model=model_file(model) if backend == "llamacpp" else model,
        endpoint=endpoint,
        script=script,
        gate=gate,
    )
    report = measure(options, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        report.render(Console())
