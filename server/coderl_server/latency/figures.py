"""From what was measured to the figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from coderl_store.records import Decision, Reason, Route, Suggestion

from ..simulate.report import percentile

FROM_MEMORY: Final = ("remembered", "typed_along")
"""Sources of answers for which nothing was decoded."""
FREE_MS: Final = 30.0
"""Within so many milliseconds a generation that was given up should have freed the model."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One request as the client saw it."""

    place: str
    """File and offset of its place: the same in every session that types this file."""
    ms: float
    """Until its answer came; for a superseded request, until it was replaced."""
    answered: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """The same with what the server decided."""

    timed: Timed
    route: Route
    reason: Reason
    asked_generator: bool
    source: str | None = None
    """`generated`, `joined` or `remembered` where there is a suggestion, `typed_along` where the one on the screen stays."""
    first_token_ms: float | None = None


def joined(timed: Sequence[Timed], decisions: Iterable[Decision], suggestions: Iterable[Suggestion]) -> list[Measured]:
    """Each request with its decision: both in the order in which the requests were read, which is that of the ids.

    Raises ValueError where there are not as many decisions as requests.
    """
    made = {suggestion.decision_id: suggestion for suggestion in suggestions}
    measured = []
    for one, decision in zip(timed, sorted(decisions, key=lambda decision: decision.id), strict=True):
        suggestion = made.get(decision.id)
        along = decision.reason is Reason.TYPED_ALONG
        measured.append(
            Measured(
                one,
                decision.route,
                decision.reason,
                decision.timings.generate_ms is not None or along,
                decision.reason.value if along else None if suggestion is None else suggestion.source,
                None if suggestion is None or suggestion.source != "generated" else suggestion.first_token_ms,
            )
        )
    return measured


def censored_median(seen: Sequence[float], cut: Sequence[float]) -> float | None:
    """The median of times of which some are only known to be longer than `cut` (Kaplan and Meier 1958); None where more than
    half of them are not known."""
    events = sorted([(time, 0) for time in seen] + [(time, 1) for time in cut])
    surviving, at_risk = 1.0, len(events)
    for time, censored in events:
        if not censored:
            surviving *= 1.0 - 1.0 / at_risk
            if surviving <= 0.5 + 1e-12:
                return time
        at_risk -= 1
    return None


def spread(measured: Sequence[Measured]) -> dict[str, float | int | None]:
    """Count, percentiles of request → answer and the median of the first token, of answered requests."""
    times = [one.timed.ms for one in measured]
    first = [one.first_token_ms for one in measured if one.first_token_ms is not None]
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return {
        "n": len(times),
        **{name: rounded(percentile(times, share)) for name, share in shares.items()},
        "ttft_ms": rounded(percentile(first, 0.5)),
    }


def rounded(value: float | None) -> float | None:
    """To a thousandth, for print."""
    return None if value is None else round(value, 3)


def ratio(part: float | None, whole: float | None) -> float | None:
    """None where there is nothing to divide, or nothing to divide by."""
    return None if part is None or not whole else round(part / whole, 4)


def waiting_p50_ms(measured: Sequence[Measured]) -> float | None:
    """The median of request → answer where an answer needs a suggestion; superseded requests count as not yet answered when
    they were replaced. Skips and rules are left out: they are as fast with any generator."""
    seen = [one.timed.ms for one in measured if one.timed.answered and one.asked_generator]
    return censored_median(seen, [one.timed.ms for one in measured if not one.timed.answered])


def spent(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted between two answers of `coderl/counters`, flat: differences of numbers, new ends of lists."""
    flat: dict[str, Any] = {}
    for name, value in after.items():
        earlier = before.get(name)
        if isinstance(value, Mapping):
            flat |= spent(earlier if isinstance(earlier, Mapping) else {}, value)
        elif isinstance(value, list):
            flat[name] = value[len(earlier or ()) :]
        elif isinstance(value, (int, float)):
            flat[name] = value - (earlier or 0)
    return flat


@dataclass(frozen=True, slots=True)
class Side:
    """One server's session."""

    measured: Sequence[Measured]
    counted: Mapping[str, Any]
    """See `spent`; without the generator's counters where the backend keeps none."""
    keystrokes: int

    @property
    def p50_ms(self) -> float | None:
        return waiting_p50_ms(self.measured)

    @property
    def superseded(self) -> int:
        return sum(not one.timed.answered for one in self.measured)


@dataclass(frozen=True, slots=True)
class Overhead:
    """The server and the bare backend in turn on the same prompts, both with a warm cache."""

    server_ms: Sequence[float] = ()
    bare_ms: Sequence[float] = ()
    different: int = 0
    """Pairs left out because the two texts were not the same."""

    @property
    def ratio(self) -> float | None:
        """The median of the pairs' ratios: the two of a pair are neighbours in time, so that a slow spell falls on both."""
        found = percentile([ours / bare for ours, bare in zip(self.server_ms, self.bare_ms, strict=True)], 0.5)
        return None if found is None else round(found, 4)


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """What `coderl bench latency` found."""

    seed: int
    server: Side
    plain: Side | None
    overhead: Overhead | None
    messages: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Stable keys; rates are None where nothing was counted that they could be a rate of."""
        measured, counted = self.server.measured, self.server.counted
        answered = [one for one in measured if one.timed.answered]
        with_source = [one for one in answered if one.source is not None]
        through = [one for one in with_source if one.source == "typed_along"]
        decided = [one for one in answered if one.source != "typed_along"]
        hits = [one for one in with_source if one.source in FROM_MEMORY]
        given_up, decoded = counted.get("given_up_ms", []), counted.get("decoded_tokens")
        prompt = counted.get("prompt_tokens", 0) - counted.get("unread_tokens", 0)
        plain_p50 = None if self.plain is None else self.plain.p50_ms
        wasted = None if decoded is None else decoded - counted["usable_tokens"] - counted["end_tokens"]
        causes = {
            "given_up": counted.get("given_up_tokens"),
            "empty": counted["empty_tokens"],
            "around": counted["around_tokens"],
        }
        if wasted is not None:
            # Decoded after the reader had what it wanted, before the model heard of it.
            causes["overrun"] = wasted - sum(causes.values())
        return {
            "seed": self.seed,
            "routes": {route.value: spread([one for one in decided if one.route is route]) for route in Route},
            "sources": {
                name: spread([one for one in with_source if one.source == name])
                for name in ("generated", "joined", *FROM_MEMORY)
            },
            "typed_through_p99_ms": spread(through)["p99_ms"],
            "cache_hit_rate": ratio(len(hits), len([one for one in answered if one.asked_generator])),
            "kv_reuse_rate": ratio(counted.get("reused_tokens"), prompt),
            "cancelled_in_30ms_rate": ratio(sum(ms <= FREE_MS for ms in given_up), len(given_up)),
            "wasted_token_share": ratio(wasted, decoded),
            "end_token_share": ratio(counted["end_tokens"], decoded),
            "overhead_ratio": None if self.overhead is None else self.overhead.ratio,
            "speedup_over_plain": ratio(plain_p50, self.server.p50_ms),
            "cpu_s_per_1000_keystrokes": ratio(counted["cpu_s"] * 1000, self.server.keystrokes),
            "decode_tokens_per_s": ratio(counted.get("timed_tokens"), counted.get("decoding_s")),
            "cancelled_p50_ms": rounded(percentile(given_up, 0.5)),
            "cancelled_worst_ms": max(given_up, default=None),
            "wasted": {name: ratio(tokens, decoded) for name, tokens in causes.items()},
            "p50_ms": rounded(self.server.p50_ms),
            "plain_p50_ms": rounded(plain_p50),
            "n": {
                "keystrokes": self.server.keystrokes,
                "requests": len(measured),
                "superseded": self.server.superseded,
                "typed_through": len(through),
                "prompt_tokens": prompt,
                "decoded_tokens": decoded,
                "given_up": counted.get("given_up"),
                "never_began": counted.get("never_began"),
                "overhead_pairs": 0 if self.overhead is None else len(self.overhead.bare_ms),
                "overhead_different": 0 if self.overhead is None else self.overhead.different,
                "plain_requests": 0 if self.plain is None else len(self.plain.measured),
                "plain_superseded": 0 if self.plain is None else self.plain.superseded,
            },
            "messages": list(self.messages),
        }

    def render(self, console: Console) -> None:
        """Two tables for people: the waits by route and by where the text came from, and everything else."""
        figures = self.to_json()
        table = Table(title=f"Request → answer, seed {self.seed}", title_justify="left")
        for heading in ("", "n", "p50 ms", "p95 ms", "p99 ms", "first token ms"):
            table.add_column(heading, justify="right" if heading else "left")
        for group in ("routes", "sources"):
            for name, row in figures[group].items():
                table.add_row(name, *(_said(value) for value in row.values()))
            table.add_section()
        console.print(table)
        rest = Table(show_header=False)
        for name, value in figures.items():
            if name not in ("routes", "sources", "messages", "n", "seed", "wasted"):
                rest.add_row(name.replace("_", " "), _said(value))
        for group in ("wasted", "n"):
            for name, value in figures[group].items():
                rest.add_row(f"{group}: {name.replace('_', ' ')}", _said(value))
        console.print(rest)
        for message in self.messages:
            console.print(f"The server said: {message}", highlight=False, markup=False)


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
