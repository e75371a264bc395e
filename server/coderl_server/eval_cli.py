"""`coderl eval`: its options, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import InputError

if TYPE_CHECKING:
    from .compared import ComparisonReport
    from .evaluated import Evaluated

Tasks = Annotated[
    list[str] | None, typer.Option(help="A file of tasks of any form of docs/training.md, or `shipped` (may be repeated).")
]
Compare = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="A B", help="Two models, as --model takes them, or two files that --out wrote: B against A."),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="Only train, validation, held-out or kept-apart tasks; all. Default: held-out with --run or --recipe, else all."
    ),
]
Run = Annotated[Path | None, typer.Option(help="A run's folder: tasks and split are those it was trained by.")]
Recipe = Annotated[Path | None, typer.Option(help="A recipe's file or name: the same.")]
SplitSeed = Annotated[int | None, typer.Option(help="Of the split; default: as the run or recipe says, else 0.")]
SplitTrain = Annotated[float | None, typer.Option(help="Share of the problems that are learned from.", min=0, max=1)]
SplitValidation = Annotated[float | None, typer.Option(help="Share of those for validation.", min=0, max=1)]
Samples = Annotated[int, typer.Option(help="Samples of each task; 1 is greedy.", min=1)]
K = Annotated[str | None, typer.Option(help="Of pass@k, such as 1,5,10; default: those, as far as there are samples.")]
Temperature = Annotated[float | None, typer.Option(help="Default: 0 for one sample, 0.8 for several.", min=0)]
TopP = Annotated[float, typer.Option(help="With a temperature above 0.", min=0.01, max=1)]
MaxTokens = Annotated[int | None, typer.Option(help="Default: 64 for a gap, 256 for a whole function.", min=1)]
Files = Annotated[list[Path] | None, typer.Option(help="A source file that a simulated programmer types (may be repeated).")]
MaxRequests = Annotated[int | None, typer.Option(help="With --files: at most so many requests per file.", min=1)]
MaxChars = Annotated[int | None, typer.Option(help="With --files: at most so many characters per file.", min=1)]
Gate = Annotated[Path | None, typer.Option(help="With --files: a gate artifact's folder; default: the shipped one.")]
Rule = Annotated[str, typer.Option(help="With --files: entropy, value, always_show or never_show.")]
Backend = Annotated[str, typer.Option(help="llamacpp (embedded), openai (any compatible server), scripted, or a dotted path.")]
Model = Annotated[str, typer.Option(help="`embedded`, `active` (promoted), a GGUF file, or the model's name at the endpoint.")]
Endpoint = Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server, for --backend openai.")]
ApiKeyEnv = Annotated[str, typer.Option(help="Name of the environment variable that holds the endpoint's key.")]
Script = Annotated[Path | None, typer.Option(help="The script of --backend scripted.")]
Threads = Annotated[int | None, typer.Option(help="Threads of the embedded model.", min=1)]
Template = Annotated[str, typer.Option(help="plain, suffix, or a family's FIM template; default: what fits the model.")]
Mode = Annotated[str, typer.Option(help="single_line, block, body, or auto: what fits the task.")]
Limit = Annotated[int | None, typer.Option(help="Only so many tasks, drawn with the seed.", min=1)]
Seed = Annotated[int, typer.Option(help="Of the draw, the samples, the typing and the intervals.")]
TimeoutS = Annotated[int, typer.Option(help="CPU seconds for one task's tests; by the clock three times that.", min=1)]
Warm = Annotated[bool, typer.Option("--warm", help="The text above was read before, as in an editor.")]
NothingForced = Annotated[
    bool, typer.Option("--nothing-forced", help="Begun words and needed names are left to the model, as `coderl train` asks.")
]
Candidates = Annotated[int, typer.Option(help="Candidates to choose from, by the generator's ranking.", min=1, max=8)]
Out = Annotated[Path | None, typer.Option(help="One row per task; a second run goes on where the first stopped.")]
Picture = Annotated[Path | None, typer.Option(help="Where a picture of the figures goes (PNG).")]
UnjailedBecause = Annotated[
    str, typer.Option(help="In words: why generated programs may run without a jail, where there is none.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def evaluate(
    tasks: Tasks = None,
    compare: Compare = None,
    part: Part = None,
    run: Run = None,
    recipe: Recipe = None,
    split_seed: SplitSeed = None,
    split_train: SplitTrain = None,
    split_validation: SplitValidation = None,
    samples: Samples = 1,
    k: K = None,
    temperature: Temperature = None,
    top_p: TopP = 0.95,
    max_tokens: MaxTokens = None,
    files: Files = None,
    max_requests: MaxRequests = None,
    max_chars: MaxChars = None,
    gate: Gate = None,
    rule: Rule = "entropy",
    backend: Backend = "llamacpp",
    model: Model = "embedded",
    endpoint: Endpoint = "",
    api_key_env: ApiKeyEnv = "",
    script: Script = None,
    threads: Threads = None,
    template: Template = "",
    mode: Mode = "auto",
    limit: Limit = None,
    seed: Seed = 20221,
    timeout_s: TimeoutS = 5,
    warm: Warm = False,
    nothing_forced: NothingForced = False,
    candidates: Candidates = 1,
    out: Out = None,
    picture: Picture = None,
    unjailed_because: UnjailedBecause = "",
    as_json: AsJson = False,
) -> None:
    """What a model is worth: tasks it solves (programs run in a jail), seconds it saves on files, or how two models differ."""
    from .comparing import evaluate_or_compare
    from .evaluating import EvalOptions
    from .task_choice import TaskChoice
    from .time_saving import TypingOptions

    options = EvalOptions(
        choice=TaskChoice(tuple(tasks or ()), part, run, recipe, split_seed, split_train, split_validation),
        typing=TypingOptions(tuple(files or ()), max_requests, max_chars, gate, rule),
        backend=backend, model=model, endpoint=endpoint, api_key_env=api_key_env, script=script, threads=threads,
        template=template, mode=mode, samples=samples, ks=None if k is None else _ks(k), temperature=temperature, top_p=top_p,
        max_tokens=max_tokens, limit=limit, seed=seed, timeout_s=timeout_s, warm=warm, forced=not nothing_forced,
        candidates=candidates, out=out, unjailed_because=unjailed_because,
    )  # fmt: skip
    _print(evaluate_or_compare(options, compare, picture), as_json)


def _print(report: Evaluated | ComparisonReport, as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        report.render(Console())


def _ks(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--k must be whole numbers of 1 or more with commas between them, such as 1,5,10, not {text!r}.")
    return tuple(sorted({int(part) for part in parts}))
