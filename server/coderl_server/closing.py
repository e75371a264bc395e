"""The commands that close the loop: what was trained becomes a file, the file becomes what servers run, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, ServerFailed

if TYPE_CHECKING:
    from coderl_trainer.export import Progress

LEAST_KEPT = 0.8
"""Of `Exported.kept`: below it the user is told."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]


def add_commands(app: typer.Typer, models_app: typer.Typer) -> None:
    """Add `export`, `promote`, `rollback` and `models list`."""
    app.command()(export)
    app.command()(promote)
    app.command()(rollback)
    models_app.command("list")(models_list)


def export(
    source: Annotated[Path, typer.Argument(help="An adapter in PEFT's form, a Hugging Face model, or a run that holds one.")],
    to: Annotated[Path, typer.Option(help="FILE.gguf for llama.cpp; a folder for an adapter that vLLM loads.")],
    base: Annotated[str, typer.Option(help="What it was trained from: `embedded`, `active`, or a GGUF file.")] = "embedded",
    type_name: Annotated[
        str,
        typer.Option("--type", help="How changed tensors are written: q8_0, f16, bf16, f32, q4_1, q4_0, or base (as there)."),
    ] = "q8_0",
    name: Annotated[str, typer.Option(help="What the training is called; default: its folder's name.")] = "",
    max_rank: Annotated[int, typer.Option(help="For vLLM: the server's --max-lora-rank.", min=1)] = 16,
    as_json: AsJson = False,
) -> None:
    """Merge what was trained into its base as a GGUF file, or check an adapter for vLLM and copy it."""
    from coderl_trainer.errors import ExportFailed, ExportRefused, RunError

    try:
        told = _to_gguf(source, base, to, type_name, name) if to.suffix == ".gguf" else _for_vllm(source, to, max_rank)
    except ExportRefused as error:
        raise InputError(str(error)) from error
    except RunError as error:
        raise InputError(
            f"{error} So it is not known for which prompts this was trained. "
            "Copy the weights out of the run to export them all the same."
        ) from error
    except ExportFailed as error:
        raise ServerFailed(str(error)) from error
    typer.echo(json.dumps(told, indent=2) if as_json else told.pop("sentence"))


def _to_gguf(source: Path, base: str, to: Path, type_name: str, name: str) -> dict[str, Any]:
    from coderl_generator.errors import ModelDamaged, ModelMissing
    from coderl_generator.promotion import find_active
    from coderl_store.home import home
    from coderl_trainer.export import export_gguf, source_in
    from coderl_trainer.run_reading import template_of

    try:
        base_file = find_active(home(), base)
    except (ModelMissing, ModelDamaged) as error:
        raise InputError(f"--base cannot be used: {error}.") from error
    with _progress() as progress:
        weights = source_in(source)
        template = template_of(weights)
        made = export_gguf(weights, base_file, to, type_name=type_name, name=name, template=template, progress=progress)
    sentence = (
        f"{made.file}: {made.generator_id}, {made.size_bytes / 1e6:.1f} MB; {made.changed} tensors changed, "
        f"{made.copied} copied. "
        f"Make it the active one with: coderl promote {made.file}"
    )
    if made.kept < LEAST_KEPT:
        sentence += f"\nRounding left {made.kept:.0%} of what was trained: say --type q8_0 or f16."
    return {**made.to_json(), "sentence": sentence}


def _for_vllm(source: Path, to: Path, max_rank: int) -> dict[str, Any]:
    from coderl_generator.adapters import Adapter
    from coderl_generator.fim_templates import FIM_TEMPLATES
    from coderl_trainer.export import source_in
    from coderl_trainer.lora import export_lora
    from coderl_trainer.run_reading import template_of

    weights = source_in(source)
    template = template_of(weights)
    lora = export_lora(weights, to, max_rank=max_rank)
    label = Adapter.at(to).label
    sentence = f"{to}: the adapter {label}, rank {lora.rank}, {len(lora.modules)} layers, as vLLM loads it."
    if template in FIM_TEMPLATES:
        sentence += f"\nIt was trained on prompts of another form: start the language server with --template {template}."
    return {"folder": str(to), "label": label, "rank": lora.rank, "layers": len(lora.modules), "sentence": sentence}


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Writing tensors", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def promote(
    source: Annotated[Path, typer.Argument(help="A GGUF file, or an adapter's folder in PEFT's form.")], as_json: AsJson = False
) -> None:
    """Make a model or an adapter the one that servers of this machine use; running ones switch to it."""
    from .promoting import promote as make_active

    _tell(make_active(source), as_json)


def rollback(as_json: AsJson = False) -> None:
    """Go back to the model or adapter that the active one replaced; running servers switch to it."""
    from .promoting import roll_back

    _tell(roll_back(), as_json)


def models_list(as_json: AsJson = False) -> None:
    """The models of this machine, which of them is active, and with --json what became active when."""
    from .promoting import listing

    _tell(listing(), as_json)


def _tell(report: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    from rich.console import Console

    report.render(Console())
