"""What rewards do to the length of suggestions, with a real engine on a tiny model: seconds saved against acceptance.

The world is `coderl_trainer.length_world`: every token is right with probability 0.97. A model writes a log, and learns from it
(logged feedback, one offline round) by each method and reward; both are measured against the model that wrote the log, in the
same run. Promises that raise where they do not hold: with seconds saved as reward, seconds rise and suggestions do not become
shorter; with acceptance alone they do, and the guard fires.

Run: python benchmarks/bench_length_pitfall.py [--quick] (needs the extra `train`). It writes out/length_pitfall.png.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coderl_store.records import Origin
from coderl_store.repository import Repository
from coderl_trainer.engine import StepSettings
from coderl_trainer.errors import LengthCollapse
from coderl_trainer.feedback import Baseline, Effective, Learning, Method, Objective, datum_of, drift, feedback, loss_settings
from coderl_trainer.length_guard import Lengths, by_length, require_length
from coderl_trainer.length_world import PROMPTS, LengthWorld, write_length_model
from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.logged import LoggedRow, Reading, agreeing, rows_from_log, split_rows
from coderl_trainer.logged_tokens import PromptShape, TokenizerCodec
from coderl_trainer.sft import batches
from coderl_trainer.types import SamplingParameters

PICTURE = Path("out/length_pitfall.png")
WORLD = LengthWorld()
MAX_TOKENS = 32
SAMPLING = SamplingParameters(MAX_TOKENS)
REWARDS = (
    ("reinforce, seconds saved", Learning(Method.REINFORCE, Objective.SECONDS)),
    ("reinforce, accepted", Learning(Method.REINFORCE, Objective.ACCEPTED)),
    ("reinforce, accepted, p2 subtracted", Learning(Method.REINFORCE, Objective.ACCEPTED, Baseline.SUGGESTION)),
    ("DRO, seconds saved", Learning(Method.DRO, Objective.SECONDS)),
    ("DRO, accepted", Learning(Method.DRO, Objective.ACCEPTED)),
    ("KTO, seconds saved", Learning(Method.KTO, Objective.SECONDS)),
    ("KTO, accepted", Learning(Method.KTO, Objective.ACCEPTED)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A model by the world's own expectations."""

    figures: Mapping[str, float]
    lengths: tuple[int, ...]
    """Tokens of each suggestion."""
    table: Lengths
    left: Effective | None = None
    """What the log still says about the model."""


def start(folder: Path, seed: int = 0) -> LocalEngine:
    """The untrained model."""
    model = folder / "model"
    if not model.exists():
        write_length_model(model, seed)
    return LocalEngine(LocalOptions(model, lora_rank=0, threads=1, max_positions=4096))


def log_of(engine: LocalEngine, folder: Path, per_prompt: int, world: LengthWorld = WORLD) -> tuple[LoggedRow, ...]:
    """The training rows of a log that the model and the world write into a database."""
    codec = TokenizerCodec(engine.tokenizer)
    groups = engine.sample([codec.encode(prompt) for prompt in PROMPTS], per_prompt, replace(SAMPLING, seed=1))
    repository = Repository(f"sqlite:///{folder / 'log.db'}")
    try:
        repository.append(world.records(PROMPTS, groups, codec.decode))
        reading = Reading(frozenset({Origin.SIMULATED}), costs=world.costs, shape=PromptShape(need_name=False))
        logged = rows_from_log(repository.requests(origins=(Origin.SIMULATED,)), codec, reading)
    finally:
        repository.close()
    same = agreeing(logged, engine.logprobs([datum_of(row) for row in logged.rows]), tolerance=1e-3)
    if same.rows != logged.rows:
        raise RuntimeError(f"The model that wrote the log gives it other log-probs: {dict(same.left_out)}.")
    return split_rows(same.rows, train_users=0.9, early=0.9).train


def measure(engine: LocalEngine, per_prompt: int, world: LengthWorld = WORLD) -> Outcome:
    """The published weights, all suggestions shown."""
    codec = TokenizerCodec(engine.tokenizer)
    groups = engine.sample([codec.encode(prompt) for prompt in PROMPTS], per_prompt, replace(SAMPLING, seed=2))
    samples = [sample for group in groups for sample in group]
    texts = [codec.decode(sample.tokens) for sample in samples]
    table = by_length(world.shown(samples, texts), len(samples))
    return Outcome(world.figures(samples, texts), tuple(len(sample.tokens) for sample in samples), table)


def trained(
    folder: Path, rows: tuple[LoggedRow, ...], learning: Learning, per_prompt: int, batch_tokens: int = 4000
) -> Outcome:
    """The model after four epochs over the rows."""
    engine = start(folder)
    made = feedback(rows, learning)
    settings = loss_settings(learning.method, beta=0.3)
    for batch in batches(made.data, batch_tokens, 4, seed=0):
        engine.forward_backward(batch, settings)
        engine.optim_step(StepSettings(2e-3))
    engine.publish()
    left = drift(made.data, engine.logprobs(made.data), least_share=0.0)
    return replace(measure(engine, per_prompt), left=left)


def collapses(before: Outcome, after: Outcome) -> bool:
    """Whether the guard fires."""
    try:
        require_length(before.table, after.table)
    except LengthCollapse:
        return True
    return False


def run(quick: bool = False) -> dict[str, Any]:
    """Figures per method and reward."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return {"skipped": "the extra `train` is not installed"}
    logged, judged = (200, 150) if quick else (500, 500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = start(folder)
        before, rows = measure(engine, judged), log_of(engine, folder, logged)
        chosen = REWARDS[:2] if quick else REWARDS
        after = {title: trained(folder, rows, learning, judged, 1500 if quick else 4000) for title, learning in chosen}
    figures: dict[str, Any] = {"rows": len(rows), "before": _figures(before)}
    for title, outcome in after.items():
        figures[title] = {**_figures(outcome), "collapse": collapses(before, outcome)}
    draw(before, after, PICTURE)
    _require(before, after)
    return figures


def _require(before: Outcome, after: Mapping[str, Outcome]) -> None:
    for title, outcome in after.items():
        good = title.endswith("seconds saved")
        if good and not (
            outcome.figures["seconds"] > before.figures["seconds"] and outcome.figures["chars"] >= before.figures["chars"]
        ):
            raise RuntimeError(f"{title}: {dict(outcome.figures)} after {dict(before.figures)}: shorter, or nothing saved.")
        if good == collapses(before, outcome) and "p2" not in title:
            raise RuntimeError(f"{title}: the guard {'fires' if good else 'does not fire'}.")


def _figures(outcome: Outcome) -> dict[str, Any]:
    named = {
        "mean_tokens": outcome.figures["tokens"],
        "mean_chars": outcome.figures["chars"],
        "acceptance": outcome.figures["acceptance"],
        "saved_s_per_suggestion": outcome.figures["seconds"],
        "retained_chars_per_opportunity": outcome.table.whole.retained_per_opportunity,
    }
    more = {} if outcome.left is None else {"ess_share_after": outcome.left.share}
    return {name: round(value, 4) for name, value in {**named, **more}.items()}


def draw(before: Outcome, after: Mapping[str, Outcome], path: Path) -> None:
    """Lengths before and after, over what the world says of each length."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blue, orange, grey = "#0072b2", "#d55e00", "#999999"
    figure = Figure(figsize=(9.6, 3.6), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    tokens = list(range(1, MAX_TOKENS + 1))
    seconds = [WORLD.seconds(count, 4 * count - 3) for count in tokens]
    left.plot(tokens, seconds, color=blue, label="seconds saved by showing it")
    left.set(xlabel="tokens of a suggestion", ylabel="seconds saved", title="What each length is worth", ylim=(0, None))
    other = left.twinx()
    other.plot(tokens, [WORLD.kept_probability(count) for count in tokens], color=orange, label="chance of being accepted")
    other.set(ylabel="chance of being accepted", ylim=(0, 1))
    left.legend(handles=[*left.lines, *other.lines], loc="lower center", frameon=False)
    bins = [count + 0.5 for count in range(MAX_TOKENS + 1)]
    shown = (
        ("before", before, grey),
        ("rewarded: seconds saved", after["reinforce, seconds saved"], blue),
        ("rewarded: acceptance", after["reinforce, accepted"], orange),
    )
    for title, outcome, colour in shown:
        label = (
            f"{title}\n  {outcome.figures['chars']:.0f} characters, {outcome.figures['acceptance']:.0%} accepted, "
            f"{outcome.figures['seconds']:.1f} s saved"
        )
        right.hist(outcome.lengths, bins=bins, density=True, histtype="step", linewidth=1.6, color=colour, label=label)
    right.set(xlabel="tokens of a suggestion", ylabel="share of the suggestions", title="What is suggested")
    right.legend(loc="upper center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2, ensure_ascii=False))
