"""The attack catalogue: in the jail every attack ends without a reward, and without one some of them win and are reported."""

from __future__ import annotations

import json

import pytest

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import Jail, open_jail
from coderl_trainer.attacks import ATTACKS, Attack, check_attacks
from coderl_trainer.errors import JailMissing

WORDS = "these attacks touch only what the check made for them"


@pytest.fixture(scope="module")
def jail() -> Jail:
    try:
        return open_jail()
    except JailUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["forging", "resources", "escape"])
def test_no_attack_wins_in_the_jail(jail: Jail, kind: str) -> None:
    report = check_attacks(jail, [attack for attack in ATTACKS if attack.kind == kind], parallel=4)
    assert [one for one in report.attacks if one.beaten] == []


def test_without_a_jail_some_attacks_win_and_are_reported() -> None:
    harmless = [attack for attack in ATTACKS if attack.harmless]
    report = check_attacks(open_jail("none", unjailed_because=WORDS), harmless, unjailed_because=WORDS)
    by_name = {one.name: one for one in report.attacks}
    for name in ("reads_a_file", "tcp", "unix_socket", "abstract_socket"):
        assert (by_name[name].reward, by_name[name].harness_healthy) == (1.0, True), name
    for name in ("writes_outside", "git_hook", "shell_start_file"):
        assert (by_name[name].harness_healthy, by_name[name].note) == (False, "it wrote outside"), name
    assert by_name["orphan"].note == "1 of its processes were left"
    for name in ("always_equal", "exits_at_once", "prints_success"):  # the comparison is out of reach even so
        assert not by_name[name].beaten, by_name[name]
    said = json.loads(json.dumps(report.to_json()))
    assert said["beaten"] == report.beaten >= 8
    assert set(said["attacks"][0]) == {"name", "reward", "harness_healthy"}
    assert "no_network" not in said["guarantees"]


def test_the_check_finds_a_program_that_solves_the_task(jail: Jail) -> None:
    (found,) = check_attacks(jail, [Attack("no_attack", "forging", "def add(a, b):\n    return a + b\n")]).attacks
    assert (found.reward, found.beaten) == (1.0, True)


def test_the_catalogue() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 120
    assert {attack.kind for attack in ATTACKS} == {"forging", "resources", "escape"}
    with pytest.raises(JailMissing):
        check_attacks(open_jail("none", unjailed_because=WORDS), [])
