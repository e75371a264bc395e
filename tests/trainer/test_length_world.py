from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from coderl_gate.costs import costs_of
from coderl_store.records import Action, Decision, Origin, Outcome, Record
from coderl_store.repository import Repository
from coderl_trainer.length_guard import by_length
from coderl_trainer.length_world import END, PROMPTS, WORDS, LengthWorld
from coderl_trainer.logged import Reading, rows_from_log
from coderl_trainer.logged_tokens import PromptShape
from coderl_trainer.types import Sample, StopReason


class Words:
    """The world's words by their numbers."""

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        return [1 + WORDS.index(text[at : at + 4]) for at in range(0, len(text), 4)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join((END, *WORDS)[number] for number in ids)


def sample(words: int, rng: random.Random) -> Sample:
    tokens = tuple(rng.randint(1, len(WORDS)) for _ in range(words))
    return Sample((*tokens, 0), (-2.0,) * (words + 1), StopReason.STOP, 0)


def groups(each: int = 200) -> list[list[Sample]]:
    rng = random.Random(3)
    return [[sample(rng.randint(0, 30), rng) for _ in range(each)] for _ in PROMPTS]


def log(world: LengthWorld, each: int = 200) -> list[Record]:
    return list(world.records(PROMPTS, groups(each), Words().decode))


def test_the_shortest_is_accepted_most_and_a_longer_one_saves_most() -> None:
    world = LengthWorld()
    kept = [world.kept_probability(tokens) for tokens in range(1, 40)]
    seconds = [world.seconds(tokens, 4 * tokens - 3) for tokens in range(1, 40)]
    assert kept == sorted(kept, reverse=True)
    assert 15 < seconds.index(max(seconds)) + 1 < 32


def test_the_same_samples_make_the_same_log() -> None:
    assert log(LengthWorld(), 20) == log(LengthWorld(), 20)
    assert log(LengthWorld(), 20) != log(LengthWorld(seed=1), 20)


def test_the_log_holds_what_the_world_says(tmp_path: Path) -> None:
    world = LengthWorld(right=0.93)
    written = log(world)
    decisions = [record for record in written if isinstance(record, Decision)]
    shown = [one for one in decisions if one.action is Action.SHOW]
    explored = [one for one in shown if one.propensity < 1]
    withheld = len(decisions) - len(shown)
    assert len([record for record in written if isinstance(record, Outcome)]) == len(shown)
    assert len(explored) / (len(explored) + withheld) == pytest.approx(world.explored, abs=0.08)
    repository = Repository(f"sqlite:///{tmp_path / 'log.db'}")
    try:
        repository.append(written)
        assert list(repository.requests()) == []  # nothing here is real
        reading = Reading(frozenset({Origin.SIMULATED}), costs=world.costs, shape=PromptShape(need_name=False))
        logged = rows_from_log(repository.requests(origins=(Origin.SIMULATED,)), Words(), reading)
    finally:
        repository.close()
    assert len(logged.rows) == len(shown)
    assert sum(logged.left_out.values()) == withheld
    kept = sum(row.kept for row in logged.rows)
    assert kept == pytest.approx(sum(row.p2 or 0.0 for row in logged.rows), abs=4 * len(shown) ** 0.5 / 2)
    weighted = sum(row.seconds / row.propensity for row in logged.rows) / len(decisions)
    assert weighted == pytest.approx(world.figures(*flat(groups()))["seconds"], abs=0.4)
    for row in logged.rows[:20]:
        assert row.seconds == pytest.approx(
            (costs_of(row.chars, 1, world.costs).t_write_s * 0.9 if row.kept else 0.0)
            - costs_of(row.chars, 1, world.costs).t_verify_s
        )


def flat(made: list[list[Sample]]) -> tuple[list[Sample], list[str]]:
    samples = [one for group in made for one in group]
    return samples, [Words().decode(one.tokens) for one in samples]


def test_the_guards_table_is_the_worlds() -> None:
    world, (samples, texts) = LengthWorld(), flat(groups(50))
    figures = world.figures(samples, texts)
    whole = by_length(world.shown(samples, texts), len(samples)).whole
    assert (whole.mean_chars, whole.acceptance) == (pytest.approx(figures["chars"]), pytest.approx(figures["acceptance"]))
