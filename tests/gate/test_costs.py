"""Seconds: signs, units and bounds of the time model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import PERSONAL_NAMES, CostParameters, costs_of, expected_costs, realised_s, tau, utility_s
from coderl_gate.errors import ArtifactError
from coderl_store.records import Costs

seconds = st.one_of(st.floats(0, 100), st.sampled_from([0.0, 1.0]))
costs = st.builds(Costs, t_wait_s=seconds, t_verify_s=seconds, t_write_s=seconds, t_edit_s=seconds)
parameters = st.builds(
    CostParameters,
    verify_base_s=st.floats(0, 5),
    verify_s_per_char=st.floats(0, 1),
    typing_chars_per_s=st.floats(0.1, 20),
    think_s_per_line=st.floats(0, 5),
    edit_share=st.floats(0, 1),
    expected_chars=st.floats(0, 500),
    expected_lines=st.floats(0, 20),
    expected_wait_s=st.floats(0, 10),
)


@given(costs, st.floats(0, 1))
def test_threshold_and_utility_agree_in_sign(c: Costs, p: float) -> None:
    gain, price = c.t_write_s - c.t_edit_s, c.t_wait_s + c.t_verify_s
    utility, threshold = utility_s(p, c), tau(c)
    if abs(p * gain - price) > 1e-9 * (1 + abs(price)) and not (threshold == 1.0 and gain > 0):
        assert (p > threshold) == (utility > 0)
    if p > threshold:
        assert utility > -1e-9
    if threshold == 1.0 and gain > 0:
        assert utility <= 1e-9


@given(costs)
def test_threshold_is_a_probability(c: Costs) -> None:
    assert 0.0 <= tau(c) <= 1.0


@given(costs, seconds, st.sampled_from(["t_wait_s", "t_verify_s", "t_edit_s"]), st.floats(0, 1))
def test_costs_raise_the_threshold_and_lower_the_utility(c: Costs, more: float, name: str, p: float) -> None:
    dearer = replace(c, **{name: getattr(c, name) + more})
    assert tau(dearer) >= tau(c)
    assert utility_s(p, dearer) <= utility_s(p, c)
    longer = replace(c, t_write_s=c.t_write_s + more)
    assert tau(longer) <= tau(c)
    assert utility_s(p, longer) >= utility_s(p, c)


def test_by_hand() -> None:
    c = costs_of(50, 2, CostParameters(), waited_s=0.25)
    assert c.t_wait_s == 0.25
    assert c.t_verify_s == pytest.approx(0.6 + 0.02 * 50)
    assert c.t_write_s == pytest.approx(50 / 5 + 0.5 * 2)
    assert c.t_edit_s == pytest.approx(0.1 * 11)
    assert tau(c) == pytest.approx(1.85 / 9.9)
    assert utility_s(0.5, c) == pytest.approx(0.5 * 9.9 - 1.85)
    assert tau(Costs(0, 1, 1, 1)) == 1.0
    assert tau(Costs(0, 0, 1, 0)) == 0.0


@given(parameters, st.integers(0, 500), st.integers(1, 20), st.floats(0, 5))
def test_all_costs_are_seconds_and_editing_is_part_of_writing(p: CostParameters, chars: int, lines: int, waited: float) -> None:
    c = costs_of(chars, lines, p, waited)
    assert min(c.t_wait_s, c.t_verify_s, c.t_write_s, c.t_edit_s) >= 0
    assert c.t_edit_s <= c.t_write_s
    assert expected_costs(p, waited) == costs_of(p.expected_chars, p.expected_lines, p, waited)
    assert expected_costs(p) == expected_costs(p, p.expected_wait_s)


@given(parameters, st.integers(1, 500), st.integers(1, 20), st.floats(0, 5), st.floats(0, 1), st.floats(1, 5))
def test_who_types_faster_reads_slower_edits_more_or_thinks_less_never_gets_a_lower_threshold(
    p: CostParameters, chars: int, lines: int, waited: float, more: float, factor: float
) -> None:
    """Per suggestion and before there is one: each parameter moves τ in one direction."""
    for changes in (
        {"typing_chars_per_s": p.typing_chars_per_s * factor},
        {"verify_base_s": p.verify_base_s + more},
        {"verify_s_per_char": p.verify_s_per_char + more},
        {"edit_share": p.edit_share + (1 - p.edit_share) * more},
        {"think_s_per_line": p.think_s_per_line / factor},
    ):
        other = replace(p, **changes)
        assert tau(costs_of(chars, lines, other, waited)) >= tau(costs_of(chars, lines, p, waited)) - 1e-9
        assert tau(expected_costs(other)) >= tau(expected_costs(p)) - 1e-9


@given(parameters, st.dictionaries(st.sampled_from(sorted(PERSONAL_NAMES)), st.floats(0.1, 1)))
def test_own_parameters_replace_the_populations(p: CostParameters, own: dict[str, float]) -> None:
    mine = p.of(own)
    for name in p.__slots__:
        assert getattr(mine, name) == own.get(name, getattr(p, name))


def test_own_parameters_are_checked() -> None:
    with pytest.raises(ArtifactError, match="cannot be expected_chars, tea_breaks"):
        CostParameters().of({"tea_breaks": 1.0, "expected_chars": 1.0})
    with pytest.raises(ArtifactError, match="typing_chars_per_s"):
        CostParameters().of({"typing_chars_per_s": 0.0})


@given(parameters, st.integers(1, 500), st.integers(1, 20), st.data())
def test_realised_seconds_rise_with_what_was_kept(p: CostParameters, chars: int, lines: int, data: st.DataObject) -> None:
    some = data.draw(st.integers(0, chars))
    nothing, part, all_ = (realised_s(kept, chars, lines, p) for kept in (0, some, chars))
    assert nothing <= part <= all_
    c = costs_of(chars, lines, p)
    assert nothing == pytest.approx(-c.t_verify_s)
    assert all_ == pytest.approx(utility_s(1.0, c))
    assert realised_s(10 * chars, chars, lines, p) == all_


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("typing_chars_per_s", 0.0),
        ("typing_chars_per_s", math.inf),
        ("verify_base_s", -0.1),
        ("verify_s_per_char", math.nan),
        ("expected_chars", math.inf),
        ("expected_wait_s", -1.0),
        ("edit_share", 1.5),
    ],
)
def test_impossible_parameters_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ArtifactError, match=name):
        replace(CostParameters(), **{name: value})
