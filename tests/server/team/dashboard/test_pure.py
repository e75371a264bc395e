"""The pure parts of the pages: which groups are shown, how numbers read, what charts are made of."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.metrics import reliability_curve
from coderl_server.team.dashboard import charts, numbers
from coderl_server.team.dashboard.charts import Range, Series
from coderl_server.team.dashboard.groups import shown_groups
from coderl_server.team.dashboard.health import evidence, routes
from coderl_server.team.dashboard.periods import SHOWN, Period
from coderl_server.team.dashboard.training import _joined
from coderl_server.team.dashboard.visit import Scope
from coderl_server.team.dashboard.worth import pictures, worth
from coderl_server.team.metrics import Metrics
from coderl_server.team.rights import group_shown
from coderl_store.day_sums import DaySums

NAMES = st.text(max_size=8)
MEMBERS = st.dictionaries(st.integers(0, 6), st.frozensets(st.integers(0, 9), min_size=1), max_size=6)


@given(members=MEMBERS, agreed=st.frozensets(st.integers(0, 9)), minimum=st.integers(1, 6))
def test_no_small_group_can_be_told_from_a_table_and_its_total(
    members: dict[int, frozenset[int]], agreed: frozenset[int], minimum: int
) -> None:
    shown = shown_groups(members, agreed, minimum)
    assert all(group_shown(members[name], agreed, minimum) for name in shown)
    hidden = set().union(*(keys for name, keys in members.items() if name not in shown))
    assert not hidden or not shown or group_shown(hidden, agreed, minimum)


def test_groups_are_hidden_only_where_they_must_be() -> None:
    large, small = set("abcde"), {"f"}
    assert shown_groups({"x": large, "y": large}, (), 5) == {"x", "y"}
    assert shown_groups({"x": large, "y": small}, (), 5) == set()  # x and the total together would tell y
    assert shown_groups({"x": large, "y": small, "z": set("ghijkl")}, (), 5) == {"z"}  # the smallest is hidden too
    assert shown_groups({"x": large, "y": small}, {"f"}, 5) == {"x", "y"}
    assert shown_groups({}, (), 5) == set()


def sums(**given: float) -> DaySums:
    return DaySums(**{"requests": 10, "shown": 4, "seen": 4, "kept": 2, "priced": 4, "seconds": 8.0, **given})  # type: ignore[arg-type]


def test_small_groups_leave_the_tables_and_large_ones_the_total() -> None:
    by = {
        "user_key": {name: sums() for name in "abcdef"},
        "day": {"2026-01-01": sums(), "2026-01-02": sums()},
        **{name: {"large": sums(requests=50), "small": sums()} for name in SHOWN[1:]},
    }
    members = {name: {key: set("abcde") | {"f"} for key in by[name]} for name in SHOWN}
    members["language"] = {"large": set("abcdef"), "small": {"f"}}
    days = ("2025-12-31", "2026-01-01", "2026-01-02")
    period = Period(days, by, members)
    found = worth(period, Scope(None, 5), ())
    assert [row.name for row in found.generators] == ["large", "small"]
    assert found.languages == ()
    assert found.hidden == 2
    assert found.total.requests == 20
    assert tuple(found.by_day) == days
    assert found.by_day["2025-12-31"] == DaySums()
    assert found.generators[0].per_shown == 2.0
    assert set(pictures(found)) == {"decisions", "seconds", "unit"}
    assert worth(period, Scope(None, 7), ()).too_few
    assert worth(period, Scope(None, 7), set("abcdef")).total.requests == 20
    assert len(worth(Period(days, by), Scope("a", 1), ()).languages) == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 s"),
        (-0.2, "0 s"),
        (59.4, "+59 s"),
        (-119.0, "−119 s"),
        (150.0, "+2.5 min"),
        (-7_300.0, "−2.0 h"),
        (9e7, "+25,000.0 h"),
    ],
)
def test_durations_come_in_the_unit_that_suits_them(value: float, said: str) -> None:
    assert numbers.duration(value) == said


def test_what_is_not_known_is_said() -> None:
    assert (
        numbers.seconds(None) == numbers.decimal(math.nan) == numbers.share(1, 0) == numbers.milliseconds(None) == "not known"
    )
    assert numbers.seconds(-0.0001) == "0.00 s"
    assert numbers.seconds(-1.5, 1) == "−1.5 s"
    assert numbers.share(1, 3) == "33 %"
    assert numbers.count(12_345.4) == "12,345"
    assert numbers.milliseconds(1234.5) == "1,234 ms"
    assert numbers.unit_of([10.0, -9000.0]) == (3600.0, "hours")
    assert numbers.unit_of([]) == (1.0, "seconds")
    assert numbers.short("") == "unknown"
    assert numbers.short("a" * 40, 20) == "a" * 11 + "…" + "a" * 8


FLOATS = st.floats(-1e9, 1e9)


@given(
    values=st.lists(st.none() | FLOATS | st.just(math.nan), min_size=1, max_size=40),
    name=NAMES.filter(lambda text: all(ch.isprintable() for ch in text)),
)
def test_charts_are_well_formed_whatever_they_show(values: list[float | None], name: str) -> None:
    labels = [name] * len(values)
    heights = [None if value is None or math.isnan(value) else abs(value) for value in values]
    drawn = [
        charts.lines([Series(name, values, "c1")], labels, name),
        charts.stacked([Series(name, heights, "c1"), Series("b", heights, "c2")], labels, name),
        charts.ranges([Range(name, value, value, value) for value in values if value is not None], name, numbers.seconds),
    ]
    for chart in drawn:
        tree = ElementTree.fromstring(f"<div>{chart}</div>")
        picture = tree.find("svg")
        assert picture is not None
        assert picture.get("aria-label") == name
        assert "nan" not in str(chart).replace(name, "")


def test_a_reliability_chart_has_a_point_per_bin() -> None:
    curve = reliability_curve([0.0, 1.0, 0.0, 1.0], [0.1, 0.4, 0.6, 0.9], bins=4)
    tree = ElementTree.fromstring(str(charts.reliability(curve, "true?")))
    assert len(tree.findall("circle")) == 4


def test_the_scale_of_a_chart_has_round_steps() -> None:
    assert [charts._step(spread) for spread in (0.0, 1.0, 7.0, 9.0, 260.0)] == [1.0, 0.5, 2.0, 5.0, 100.0]


def test_a_metric_measured_now_and_then_is_joined() -> None:
    assert _joined([0, 1, 2, 3, 4], {1: 1.0, 3: 2.0}) == [None, 1.0, 1.5, 2.0, None]


def test_quantiles_of_routes_are_bounds_of_buckets() -> None:
    metrics = Metrics()
    for _ in range(99):
        metrics.observe("coderl_request_seconds", 0.004, route="/v1/records")
    metrics.observe("coderl_request_seconds", 60.0, route="/v1/records")
    _, histograms = metrics.gathered()
    (one,) = routes(histograms)
    assert (one.name, one.n, list(one.quantiles)) == ("/v1/records", 100, [5.0, 5.0, 5.0])
    (histogram,) = histograms.values()
    assert histogram.quantile_s(1.0) == math.inf


def test_evidence_is_listed_from_the_strongest() -> None:
    assert evidence(DaySums(by_inferred=3, by_command=2)) == [("command", 2), ("inferred", 3)]
