"""Re-deciding a log: what another artifact, eagerness or rule would have done, and how many seconds it would have saved.

Each logged request is decided again through `coderl_gate.policy`, with p1 and p2 from stored features. Silence earns 0 by
definition, so only suggestions that the other policy would show have to be estimated from the log, with

    w = P_target(show) / P_log(show)      on the requests where the log shows the suggestion, and
    m = mean P_target(show)               known wherever a suggestion was generated, weighted by 1 / P_log(generate) elsewhere:

    V̂ = m · Σ w·r / Σ w                   self-normalised (`offpolicy.snips`), r = realised seconds (`costs.realised_s`)

Beside it stand IPS, clipped IPS and the doubly robust estimate with the gate itself as the model of the outcome, twice: q̂ =
utility at p2 of the logged suggestion, b = utility at p1 of a suggestion of mean length, where none was generated.

Each programmer's own cost parameters and tendency count, as in the server: the tendency starts from the artifact's and learns
from what the log shows of them, request by request. The pace of typing within a session is not rebuilt.

Covered: exact propensities of both coins, several users (intervals draw users), users that saw a suggestion too short to
judge (they earn 0). Counted and left out: requests that a rule or a failure settled, suggestions the programmer asked for,
rows without an outcome or of another feature version. Not covered: what the programmer would have typed or been offered
*after* another decision; a draft is counted as if the logged text had been shown, and the other way round; skipped requests
for which the generator would have had nothing to say; waiting as logged.

No verdict is given where the other policy would act outside what the log can tell: `overlap` is the share of its actions that
the log's policy could have taken, `ess` how many requests the weighted ones are worth.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from coderl_store.records import Action, Origin, OutcomeKind, Route, Stage, Trigger
from coderl_store.repository import LoggedRequest

from . import offpolicy
from .artifact import GateArtifact
from .catalogue import FEATURE_VERSION, P1
from .costs import CostParameters, costs_of, expected_costs, realised_s, utility_s
from .dataset import kept_chars_of
from .errors import DataError
from .fitness import kept_after
from .policy import Policy, Request, Rule, action_probabilities, planned_route
from .replay_report import MIN_CLUSTERS, MIN_ESS, Redecided, clusters_of, report_of
from .replay_report import ReplayReport as ReplayReport
from .silence import silence
from .tendency import NOBODY, Tendency


@dataclass(frozen=True, slots=True)
class _Row:
    """One re-decided request."""

    generate: float
    """P_target(generate)."""
    show: float
    """P_target(show), given the suggestion; 0 where there is none."""
    logged_generate: float
    """P_log(generate) where a suggestion was generated, else 0."""
    logged_show: float
    """P_log(show), given the suggestion; 0 where there is none."""
    shown: bool
    seconds: float
    """Realised, where shown."""
    kept: float
    seen: float
    unsupported: float
    """P_target of what the log could never have done, weighted like the row."""
    modelled: float
    """Seconds that the gate expects of showing the suggestion; 0 where there is none."""
    guess: float
    """Seconds that the gate expects of the target's action before there is a suggestion."""


def replay(
    requests: Iterable[LoggedRequest],
    artifact: GateArtifact,
    policy: Policy | None = None,
    *,
    truth: CostParameters | None = None,
    seed: int = 0,
    resamples: int = offpolicy.RESAMPLES,
    min_ess: float = MIN_ESS,
    shadow_labels: bool = False,
) -> ReplayReport:
    """Re-decide the requests with `artifact` and `policy` (None: the artifact's own h, no eagerness, no exploration).

    Seconds are counted with `truth`, else with the artifact's cost parameters: to compare two artifacts, give both replays the
    same. With `shadow_labels` the report also says what was typed where the log was silent (`coderl_gate.silence`); no other
    figure depends on it. Raises `DataError` where no request can be re-decided, `ArtifactError` where the artifact needs
    features that the log does not have.
    """
    policy = policy or Policy(artifact.h_bits)
    truth = truth or artifact.costs
    left_out: Counter[str] = Counter()
    taken: list[LoggedRequest] = []
    seen: set[str] = set()
    for request in requests:
        reason = _why_not(request, seen)
        if reason is None:
            taken.append(request)
        else:
            left_out[reason] += 1
    if not taken:
        what = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DataError(
            f"The log holds no request that a gate decided{f' ({what})' if what else ''}: there is nothing to replay."
        )
    tendencies = dict(artifact.tendencies)
    rows = [_row(request, artifact, policy, truth, tendencies) for request in taken]
    kind, clusters = clusters_of(
        [request.session.user_key for request in taken],
        [request.session.id for request in taken],
        [request.decision.at for request in taken],
    )
    columns = Redecided(*(np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in _Row.__slots__))
    report = report_of(columns, kind, clusters, left_out, seed=seed, resamples=resamples, min_ess=min_ess)
    said = silence(taken, clusters, truth, seed=seed, resamples=resamples) if shadow_labels else None
    return dataclasses.replace(report, warnings=_warnings(artifact, taken, kind), silence=said)


def _warnings(artifact: GateArtifact, taken: Sequence[LoggedRequest], kind: str) -> tuple[str, ...]:
    said = []
    until = artifact.provenance.get("data_until")
    if isinstance(until, str) and min(request.decision.at for request in taken) <= datetime.fromisoformat(until):
        said.append(
            f"The gate's own data reaches until {until}: if these requests are part of it, the estimate flatters it; "
            "replay a later period."
        )
    if kind != "users":
        said.append(
            f"There are fewer than {MIN_CLUSTERS} users, so the intervals draw {kind}: they do not speak for other users."
        )
    return tuple(said)


def _why_not(request: LoggedRequest, seen: set[str]) -> str | None:
    decision, suggestion = request.decision, request.suggestion
    if decision.id in seen:
        return "with an id that occurred before"
    seen.add(decision.id)
    if decision.stage is Stage.RULE:
        return "settled by a rule or a failure"
    if request.context.trigger is Trigger.INVOKED:
        return "asked for by the programmer"
    if request.context.feature_version != FEATURE_VERSION:
        return "of another feature version"
    if not (math.isfinite(decision.propensity) and 0 < decision.propensity <= 1):
        return "with an impossible propensity"
    if decision.route is not Route.SKIP and (suggestion is None or suggestion.feature_version != FEATURE_VERSION):
        return "whose suggestion was not logged with features of this version"
    if decision.action is Action.SHOW and request.outcome is None:
        return "without an outcome yet"
    return None


def _row(
    request: LoggedRequest,
    artifact: GateArtifact,
    policy: Policy,
    truth: CostParameters,
    tendencies: dict[str, Tendency],
) -> _Row:
    """One request re-decided, with what is known of its programmer so far; what they did with it is added to `tendencies`."""
    decision, suggestion, outcome = request.decision, request.suggestion, request.outcome
    user, own = request.session.user_key, artifact.costs_of_user(request.session.user_key)
    tendency = tendencies.get(user, NOBODY)
    anybody = artifact.stage1.probability(request.context.features)
    p1 = tendency.applied(anybody)
    asked = Request(p1=p1, expected=expected_costs(own))
    planned = planned_route(asked, policy)
    generate = policy.epsilon_skip if planned is Route.SKIP else 1.0
    guess = utility_s(p1, expected_costs(truth))
    if planned is not Route.DRAFT and policy.rule is not Rule.ALWAYS_SHOW:
        guess = generate * max(0.0, guess)  # stage 2 may still stay silent
    if decision.route is Route.SKIP or suggestion is None:
        unsupported = 0.0 if decision.propensity < 1.0 else generate
        return _Row(generate, 0.0, 0.0, 0.0, False, 0.0, 0.0, 0.0, unsupported, 0.0, guess)
    waited_s = 0.0 if decision.costs is None else decision.costs.t_wait_s
    features = {**request.context.features, **suggestion.features}
    if request.session.origin is Origin.IMPORTED:
        p2 = tendency.applied(artifact.stage2.probability({**features, P1.name: anybody}))
    else:
        p2 = tendency.applied(kept_after(artifact, features, anybody))
    costs = costs_of(suggestion.chars, suggestion.lines, own, waited_s)
    table = action_probabilities(Request(p1=p1, expected=asked.expected, p2=p2, costs=costs), policy)
    show = sum(probability for (_, action), probability in table.items() if action is Action.SHOW)
    shown = decision.action is Action.SHOW
    logged_generate, logged_show = logged_probabilities(
        shown, decision.propensity, decision.p2, decision.tau, decision.epsilon_withhold
    )
    seconds = kept = judged = 0.0
    if shown and outcome is not None and outcome.kind is not OutcomeKind.NOT_SEEN:
        seconds = realised_s(kept_chars_of(request), suggestion.chars, suggestion.lines, truth, waited_s)
        kept, judged = float(outcome.kept), 1.0
        tendencies[user] = tendency.learned(p2, outcome.kept, artifact.tendency_prior)
    unsupported = show / logged_generate if logged_show == 0 else 0.0
    modelled = utility_s(p2, costs_of(suggestion.chars, suggestion.lines, truth, waited_s))
    return _Row(generate, show, logged_generate, logged_show, shown, seconds, kept, judged, unsupported, modelled, guess)


def logged_probabilities(
    shown: bool, propensity: float, p2: float | None, tau: float | None, epsilon_withhold: float
) -> tuple[float, float]:
    """P_log(generate) and P_log(show) of a request for which something was generated, by its decision.

    The propensity is their product with what stage 2's coin allowed, which p2, τ and ε′ tell; so this holds whatever rule
    stage 1 went by.
    """
    if propensity == 1.0:
        return 1.0, 1.0 if shown else 0.0
    if p2 is None or tau is None:
        return 1.0, propensity if shown else 1.0 - propensity
    show = 1.0 if p2 > tau else epsilon_withhold
    drawn = show if shown else 1.0 - show
    generate = min(1.0, propensity / drawn) if drawn > 0 else 1.0
    return generate, generate * show
