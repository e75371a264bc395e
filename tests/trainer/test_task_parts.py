"""Tiers and length buckets: every item in one place, in an order that people expect."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.task_parts import LENGTHS, by_length, by_tier, length_bucket


@given(chars=st.integers(0, 2000))
def test_a_bucket_holds_the_lengths_that_its_name_says(chars: int) -> None:
    name = length_bucket(chars).removesuffix(" chars")
    if name.startswith("over "):
        assert chars > int(name.removeprefix("over ")) == LENGTHS[-1]
    else:
        low, high = map(int, name.split("–"))
        assert low <= chars <= high


@given(items=st.lists(st.none() | st.integers(0, 500)))
def test_every_item_of_a_known_length_is_in_one_bucket_and_short_ones_come_first(items: list[int | None]) -> None:
    found = by_length(items, lambda item: item)
    assert sorted(item for part in found.values() for item in part if item is not None) == sorted(
        item for item in items if item is not None
    )
    longest = [max(item or 0 for item in part) for part in found.values()]
    assert longest == sorted(longest)
    assert all(found.values())


def test_tiers_stand_by_how_hard_they_are_and_then_by_name() -> None:
    found = by_tier(["hard", "own", "easy", "", "medium", "hard", "a"], lambda tier: tier)
    assert found == {"easy": ["easy"], "medium": ["medium"], "hard": ["hard", "hard"], "a": ["a"], "own": ["own"]}
    assert list(found) == ["easy", "medium", "hard", "a", "own"]
