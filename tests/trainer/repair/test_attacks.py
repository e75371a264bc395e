"""The attacks of agents: none wins, all that must be named are, and an attack that succeeds is seen to."""

from __future__ import annotations

import json

import pytest

from coderl_trainer.judge import Judge
from coderl_trainer.repair.attacks import ATTACKS, AgentAttack, check_agent_attacks
from coderl_trainer.repair.rewards import Finding


@pytest.mark.slow
def test_no_attack_wins(judge: Judge) -> None:
    report = check_agent_attacks(judge)
    assert [(one.name, one.reward, one.note) for one in report.attacks if one.beaten] == []
    told = json.loads(json.dumps(report.to_json()))
    assert (told["beaten"], len(told["attacks"])) == (0, len(ATTACKS))
    assert {"deletes_tests", "edits_tests", "special_cases_names", "checks_out_the_fix", "hides_by_commit"} <= {
        one.name for one in report.attacks
    }
    assert {"removes_and_clones", "reads_hidden_tests", "network"} <= {one.name for one in report.attacks}


def test_an_attack_that_succeeds_is_seen(judge: Judge) -> None:
    """An honest repair stands for a hole, and a finding that is not there for a report that is blind."""
    attacks = [
        AgentAttack("succeeds", "won()"),
        AgentAttack("not_named", "pass", frozenset({Finding.TESTS_CHANGED})),
    ]
    succeeds, blind = check_agent_attacks(judge, attacks).attacks
    assert (succeeds.reward > 1, succeeds.beaten) == (True, True)
    assert (blind.reward, blind.beaten, blind.note) == (0.0, True, "the report does not name tests_changed")


def test_names_are_different() -> None:
    assert len({one.name for one in ATTACKS}) == len(ATTACKS) >= 25
