"""`simplecoder`: the coding agent on the command line.

The answer goes to standard output, everything else to standard error. Exit codes: 0 answered, 1 the endpoint or the jail
failed, or a replay diverged, 2 the input was wrong, 3 a budget was used up, 4 the model's calls could not be read, 130 Ctrl-C.
A run that ended otherwise than with 0 can be taken up with --resume.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import typer

from coderl_generator.agent.app import RunConfig, Session
from coderl_generator.agent.loop import Ended, Status
from coderl_generator.agent.permissions import LastingGrants
from coderl_generator.agent.replaying import replay
from coderl_generator.agent.trajectory import Recorder, Trajectory, read_trajectory
from coderl_generator.errors import BadTrajectory, GeneratorError, JailUnavailable, ModelMissing, PathRefused
from coderl_store.errors import SettingsError
from coderl_store.home import home

from .errors import InputError
from .simplecoder_options import Options, command_of
from .simplecoder_parts import chat_model, environment_of, hidden_patterns, place_of, replay_toolbox, test_command
from .simplecoder_terminal import Terminal, shown

_EXITS = MappingProxyType(
    {Status.ANSWERED: 0, Status.FAILED: 1, Status.BUDGET: 3, Status.MALFORMED: 4, Status.INTERRUPTED: 130}
)


def main() -> None:
    """The entry point: what the user can mend becomes one sentence on standard error."""
    try:
        app()
    except (InputError, SettingsError, BadTrajectory, PathRefused, ModelMissing, JailUnavailable) as error:
        _leave(error, 2)
    except GeneratorError as error:
        _leave(error, 1)
    except SystemExit as leaving:
        if leaving.code == 130:
            sys.stderr.write("simplecoder: interrupted.\n")
        raise


def _leave(error: Exception, code: int) -> None:
    sys.stderr.write(f"simplecoder: {error}\n")
    sys.exit(code)


def run(options: Options) -> None:
    """A coding agent: it reads, searches, edits and tests in one folder, within the permissions you give."""
    if options.forget_permissions:
        LastingGrants(permissions_folder(), options.workspace).path.unlink(missing_ok=True)
    if options.show is not None:
        typer.echo(shown(read_trajectory(options.show)))
    elif options.export_training is not None:
        from coderl_generator.agent.training_rows import training_rows

        for row in training_rows(read_trajectory(options.export_training)):
            typer.echo(json.dumps(row))
    elif options.replay is not None:
        raise typer.Exit(_replay(read_trajectory(options.replay), options))
    elif options.task.strip() or options.interactive or options.resume is not None:
        raise typer.Exit(_run(options))
    elif not options.forget_permissions:
        raise InputError('say what to do: simplecoder "TASK", or simplecoder --interactive')


def permissions_folder() -> Path:
    """Where lasting permissions are kept: in the data folder, which no tool of the agent can reach."""
    return home() / "agent" / "permissions"


def _run(options: Options) -> int:
    earlier = read_trajectory(options.resume) if options.resume is not None else None
    config = _config(options, earlier)
    new = home() / "agent" / "runs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}.jsonl"
    path = options.resume or options.trajectory or new
    if options.trajectory is not None and options.trajectory.exists() and options.trajectory.stat().st_size:
        raise InputError(f"{path} is there already: take that run up with --resume {path}, or name another file")
    terminal = Terminal(interactive=not options.non_interactive and sys.stdin.isatty(), quiet=options.as_json)
    task = options.task if options.task.strip() or earlier is not None else terminal.question()
    if not task and earlier is None:
        raise InputError("nothing was said")
    place = place_of(options, config, (home(), path), permissions_folder(), terminal)
    with ExitStack() as stack:
        recorder = stack.enter_context(closing(Recorder(path, time.monotonic)))
        model = stack.enter_context(closing(chat_model(options, config, earlier)))
        session = Session(config, place, model, recorder, terminal)
        if earlier is not None:
            ended = session.resume(earlier, task)
        else:
            ended = session.begin(task)
        while options.interactive and ended.status is Status.ANSWERED:
            if not options.as_json:
                terminal.answered(ended, session.bad_citations(ended))
            said = terminal.question()
            if not said:
                break
            ended = session.go_on(said)
        told = options.interactive and ended.status is Status.ANSWERED
        _report(ended, session, path, terminal, options, told=told)
    return _EXITS[ended.status]


def _config(options: Options, earlier: Trajectory | None) -> RunConfig:
    """What was given, over the recorded run's, over the defaults."""
    base = asdict(RunConfig.of(earlier)) if earlier is not None else {}
    names = {one.name for one in fields(RunConfig)} - {"output_root"}
    given: dict[str, Any] = {name: getattr(options, name, None) for name in names}
    given["hidden"] = [*base.get("hidden", ()), *hidden_patterns(options)]
    if options.output_root is not None:
        root, folder = options.workspace.resolve(), options.output_root.resolve()
        if not folder.is_relative_to(root):
            raise InputError(
                f"--output-root {options.output_root} lies outside the workspace {root}: choose a folder inside it"
            )
        given["output_root"] = folder.relative_to(root).as_posix()
    if options.prices:
        try:
            given["prompt_price"], given["reply_price"] = map(float, options.prices.split(","))
        except ValueError:
            raise InputError(f"--prices {options.prices!r}: write two numbers, as in --prices 0.5,1.5") from None
    elif options.max_cost is not None and not base.get("reply_price"):
        raise InputError("--max-cost needs --prices PROMPT,REPLY per million tokens")
    config = {**base, **{name: value for name, value in given.items() if value is not None}}
    if config.get("compaction", "auto") not in ("auto", "error", "off"):
        raise InputError(f"--compaction is auto, error or off, not {config['compaction']!r}")
    if not config.get("base_url") and not str(config.get("model", "embedded")).startswith("scripted:"):
        config.setdefault("context_tokens", 8192)
    config.setdefault("test_command", test_command(environment_of(options)))
    return RunConfig(**config)


def _report(ended: Ended, session: Session, path: Path, terminal: Terminal, options: Options, *, told: bool) -> None:
    """The end: JSON, or the answer (if it was not `told`) on standard output and the rest on standard error."""
    if options.as_json:
        report = {
            "status": str(ended.status),
            "detail": ended.detail,
            "answer": ended.answer,
            "bad_citations": [asdict(one) for one in session.bad_citations(ended)],
            "spent": ended.spent.to_json(),
            "cost": session.agent.budget.price(ended.spent),
            "diff": session.diff(),
            "trajectory": str(path),
        }
        typer.echo(json.dumps(report))
        return
    if not told:
        terminal.answered(ended, session.bad_citations(ended))
    if session.config.dry_run and (diff := session.diff()):
        typer.echo(diff)
    terminal.ended(ended, path)


def _replay(trajectory: Trajectory, options: Options) -> int:
    config = RunConfig.of(trajectory)
    result = replay(trajectory, options.workspace, replay_toolbox(options, config))
    if options.as_json:
        typer.echo(json.dumps(asdict(result)))
        return 0 if result.divergence is None else 1
    passed = f", {result.passed_over} passed over" if result.passed_over else ""
    if result.divergence is None:
        typer.echo(f"No divergence in {result.calls} calls{passed}.")
        return 0
    one = result.divergence
    typer.echo(f"Call {one.number}, {one.tool} {json.dumps(one.arguments)}, came out otherwise{passed}.")
    typer.echo(f"--- recorded\n{one.recorded}\n--- now\n{one.now}")
    return 1


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(command_of(run))
