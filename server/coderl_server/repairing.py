"""`coderl eval --env repair`: how many broken repositories an agent repairs, two agents compared, and what attacks come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .repair_reports import RepairComparison, RepairEvaluated
from .repair_tasks import agent_packages, repairs_of, task_files

if TYPE_CHECKING:
    from coderl_trainer.judge import Judge
    from coderl_trainer.repair.agents import Agent
    from coderl_trainer.repair.attacks import AgentAttackReport
    from coderl_trainer.repair.figures import RepairRow
    from coderl_trainer.repair.tasks import RepairTask

Told = Callable[[str, int, int], None]
"""Hears of what how many are done, of how many."""
_SCAFFOLDS = ("nano", "full")


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """What `coderl eval --env repair` was asked for."""

    tasks: tuple[str, ...] = ()
    endpoint: str = ""
    model: str = ""
    """Empty = the only one that the endpoint serves."""
    api_key_env: str = ""
    agent: str = ""
    """The command; empty = `simplecoder`."""
    scaffold: str = "nano"
    max_steps: int = 20
    wall_s: float = 600.0
    samples: int = 1
    limit: int | None = None
    seed: int = 0
    parallel: int = 2
    reads: tuple[Path, ...] = ()
    out: Path | None = None
    unjailed_because: str = ""


def evaluate_repairs(options: RepairOptions, compare: tuple[str, str] | None, told: Told) -> RepairEvaluated | RepairComparison:
    """Run the agent on the tasks, or two of them; `compare` names models, scaffolds, or files that `out` wrote.

    Raises `InputError` for what the user can mend.
    """
    from coderl_trainer.errors import GitFailed, JailMissing, TrainerError

    try:
        if compare is None:
            return _evaluated(options, "agent", told)
        sides = [_side(name, options, letter, told) for name, letter in zip(compare, "ab", strict=True)]
        return RepairComparison.of(*sides, seed=options.seed)
    except TrainerError as error:
        if isinstance(error, ValueError | JailMissing | GitFailed):
            raise InputError(f"{error}") from error
        raise


def attack_repairs(options: RepairOptions, told: Told) -> AgentAttackReport:
    """Run every attack of the catalogue. Raises `InputError` where no jail or no git is here."""
    from coderl_trainer.errors import GitFailed, JailMissing
    from coderl_trainer.judge import open_judge
    from coderl_trainer.repair.attacks import check_agent_attacks

    try:
        with open_judge(parallel=options.parallel) as judge:
            return check_agent_attacks(judge, told=lambda done, of: told("attacks", done, of))
    except (GitFailed, JailMissing) as error:
        raise InputError(f"{error}") from error


def _side(name: str, options: RepairOptions, letter: str, told: Told) -> RepairEvaluated:
    if Path(name).suffix == ".jsonl":
        from coderl_trainer.repair.figures import read_rows

        return RepairEvaluated(name, tuple(read_rows(Path(name))), options.seed)
    out = options.out
    out = None if out is None else out.with_suffix(f".{letter}{out.suffix}")
    asked = replace(options, scaffold=name, out=out) if name in _SCAFFOLDS else replace(options, model=name, out=out)
    return replace(_evaluated(asked, letter, told), name=name)


def _evaluated(options: RepairOptions, what: str, told: Told) -> RepairEvaluated:
    from coderl_trainer.judge import open_judge
    from coderl_trainer.repair.figures import write_rows

    if not options.tasks:
        raise InputError("--tasks is missing: name a file of repairs or of tasks that repairs are made of, or `shipped`.")
    agent = _agent(options)
    model = options.model or _only_model(options, agent)
    made = repairs_of(options.tasks, seed=options.seed, unjailed_because=options.unjailed_because)
    tasks = _drawn(made.repairs, options)
    with open_judge(parallel=options.parallel, unjailed_because=options.unjailed_because) as judge:
        rows = _run(options, agent, model, tasks, judge, lambda done, of: told(what, done, of))
    if options.out is not None:
        write_rows(rows, options.out)
    return RepairEvaluated(
        f"{model or options.agent} ({options.scaffold})", tuple(rows), options.seed, len(made.left_out), options.out
    )


def _run(
    options: RepairOptions,
    agent: Agent,
    model: str,
    tasks: Sequence[RepairTask],
    judge: Judge,
    told: Callable[[int, int], None],
) -> list[RepairRow]:
    from coderl_generator.errors import GeneratorError
    from coderl_trainer.repair.agent_jail import AgentJail, AgentLimits
    from coderl_trainer.repair.episodes import Workshop
    from coderl_trainer.repair.figures import RepairRow
    from coderl_trainer.repair.grading import RepairGrader
    from coderl_trainer.repair.proxy import Proxy

    jail = AgentJail(AgentLimits(wall_s=options.wall_s), options.reads, task_files(options.tasks), agent_packages())
    with ExitStack() as stack:
        try:
            server = options.endpoint or "http://127.0.0.1:9"  # asked by nobody: the command has no {base_url}
            proxy = stack.enter_context(Proxy(server, exact=False, api_key_env=options.api_key_env))
        except GeneratorError as error:
            raise InputError(f"--endpoint cannot be used: {error}.") from error
        workshop = stack.enter_context(Workshop(RepairGrader(judge), jail, proxy, parallel=options.parallel))
        every = [task for task in tasks for _ in range(options.samples)]
        return [RepairRow.of(one) for one in workshop.all(every, agent, model, told=told)]


def _agent(options: RepairOptions) -> Agent:
    from coderl_trainer.repair.agents import SIMPLECODER, Agent, Scaffold

    if options.scaffold not in _SCAFFOLDS:
        raise InputError(f"--scaffold must be one of {', '.join(_SCAFFOLDS)}, not {options.scaffold!r}.")
    agent = Agent(
        options.agent or SIMPLECODER,
        options.model or "agent",
        scaffold=Scaffold(options.scaffold),
        max_steps=options.max_steps,
    )
    if agent.asks and not options.endpoint:
        raise InputError("--endpoint is missing: the agent's command asks a model server (it has {base_url}).")
    return agent


def _only_model(options: RepairOptions, agent: Agent) -> str:
    from contextlib import closing

    from coderl_generator.errors import GeneratorError
    from coderl_generator.vllm_client import VllmClient

    if not agent.asks:
        return ""
    try:
        with closing(VllmClient(options.endpoint, api_key_env=options.api_key_env)) as client:
            models = client.base_models()
    except GeneratorError as error:
        raise InputError(f"--endpoint cannot be used: {error}.") from error
    if len(models) != 1:
        raise InputError(f"The endpoint serves {', '.join(models) or 'no model'}: say which one with --model.")
    return models[0]


def _drawn(tasks: Sequence[RepairTask], options: RepairOptions) -> Sequence[RepairTask]:
    import random

    if options.limit is None or options.limit >= len(tasks):
        return tasks
    return random.Random(options.seed).sample(tasks, options.limit)
