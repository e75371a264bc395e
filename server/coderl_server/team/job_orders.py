"""What a job may be asked for over HTTP → the command that does it. Pure.

A job is the very command a person would type, in a process of its own: it takes its own memory and processor, it can be ended
at any moment, and there is one way to calibrate and one to replay. The database is not on the command line, where other
programs of the machine would see its password.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from coderl_gate.policy import Rule
from coderl_store.jobs import JobKind
from coderl_store.records import Origin

CALIBRATE = (sys.executable, "-c", "from coderl_gate.cli import main; main()")
REPLAY = (sys.executable, "-m", "coderl_server", "replay")
SPEAKS: Mapping[JobKind, str] = MappingProxyType({JobKind.CALIBRATION: "gate-calibrate: ", JobKind.REPLAY: "coderl: "})
"""How a command's own sentences begin on its standard error; nothing else of it is passed on."""


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    origins: list[Origin] = Field(default=[Origin.EDITOR], min_length=1, max_length=len(Origin), description="Whose sessions.")
    since: AwareDatetime | None = Field(default=None, description="Only requests from this moment on.")
    until: AwareDatetime | None = Field(default=None, description="Only requests before this moment.")

    def _part(self) -> list[str]:
        """The options that name a part of the log; whole seconds, in UTC."""
        moments = {"--since": self.since, "--until": self.until}
        named = [part for name, moment in moments.items() if moment is not None for part in (name, _text(moment))]
        return [*(part for origin in self.origins for part in ("--origin", origin.value)), *named]


class CalibrationOrder(_Order):
    """`gate-calibrate` on the server's log. The report lies in the server's data folder."""

    kind: Literal["calibration"]
    explicit_only: bool = Field(default=False, description="Leave out outcomes that were only inferred.")
    budget_s: float = Field(default=0.02, ge=0, le=60, description="Expected seconds per request that silence may cost.")
    promote: bool = Field(default=False, description="Make the new gate the active one, unless it is worse.")

    def command(self) -> list[str]:
        """What is run."""
        flags = {"--explicit-only": self.explicit_only, "--promote": self.promote}
        chosen = [name for name, wanted in flags.items() if wanted]
        return [*CALIBRATE, "--json", "--progress", *self._part(), "--budget-s", str(self.budget_s), *chosen]


class ReplayOrder(_Order):
    """`coderl replay` of the server's log under the active gate with another rule or eagerness."""

    kind: Literal["replay"]
    rule: Rule = Rule.ENTROPY
    eagerness: float = Field(default=0.0, ge=-1, le=1)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    shadow_labels: bool = Field(default=False, description="Also say what was typed anyway where the log was silent.")

    def command(self) -> list[str]:
        """What is run."""
        dial = ["--rule", self.rule.value, f"--eagerness={self.eagerness}", "--seed", str(self.seed)]
        labels = ["--shadow-labels"] if self.shadow_labels else []
        return [*REPLAY, "--json", "--progress", *self._part(), *dial, *labels]


Order = Annotated[CalibrationOrder | ReplayOrder, Field(discriminator="kind")]
_ORDERS: Mapping[JobKind, type[CalibrationOrder] | type[ReplayOrder]] = MappingProxyType(
    {JobKind.CALIBRATION: CalibrationOrder, JobKind.REPLAY: ReplayOrder}
)


def command_of(kind: JobKind, options: Mapping[str, Any]) -> Sequence[str]:
    """The command of a job as it stands in the database."""
    return _ORDERS[kind].model_validate(options).command()


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
