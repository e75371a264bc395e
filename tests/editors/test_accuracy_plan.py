"""The plan of `make outcome-accuracy` and its counting, without an editor."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from coderl_store.home import hashed, salt
from coderl_store.records import Evidence, OutcomeKind

from .accuracy.plan import (
    BARE,
    BARE_PARTS,
    NEOVIM,
    NEOVIM_PLUGIN,
    Act,
    Client,
    Interaction,
    Move,
    Truth,
    next_line,
    next_word,
    plan,
    script,
)
from .accuracy.score import BEGIN, END, Logged, head, read, score, table, wilson, written

CLIENTS = pytest.mark.parametrize("client", [NEOVIM_PLUGIN, NEOVIM, BARE, BARE_PARTS], ids=lambda client: client.name)


@CLIENTS
def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another(client: Client) -> None:
    assert plan(1, 40, client) == plan(1, 40, client)
    assert plan(1, 40, client) != plan(2, 40, client)
    assert plan(1, 10, client) == plan(1, 300, client)[:10]


@CLIENTS
def test_every_move_of_the_client_is_made_and_no_other(client: Client) -> None:
    short = Counter(one.move for one in plan(1, len(client.moves), client))
    assert short == dict.fromkeys(client.moves, 1)
    long = Counter(one.move for one in plan(1, 300, client))
    assert set(long) == set(client.moves)
    assert long[Move.LINGER] <= 5
    assert min(count for move, count in long.items() if move is not Move.LINGER) >= 10


def test_a_client_without_a_plugin_cannot_dismiss_and_bare_neovim_takes_no_parts() -> None:
    assert Move.DISMISS not in NEOVIM.moves
    assert Move.DISMISS not in BARE.moves
    acts = {step.act for one in plan(1, 300, NEOVIM) for step in one.steps}
    assert acts.isdisjoint({Act.WORD, Act.LINE, Act.DISMISS})


def replayed(one: Interaction) -> Truth:
    """The truth of the steps, told in another way than the plan tells it: by going through them."""
    rest, taken, kind = one.text, 0, OutcomeKind.MOVED_ON
    for step in one.steps:
        if step.act in (Act.WORD, Act.LINE, Act.ACCEPT):
            assert rest.startswith(step.text)
            rest, taken = rest[len(step.text) :], taken + len(step.text)
            kind = OutcomeKind.PARTIALLY_ACCEPTED if rest else OutcomeKind.ACCEPTED
        elif step.act is Act.TYPE and rest.startswith(step.text):
            rest = rest[len(step.text) :]
            kind = kind if rest else OutcomeKind.TYPED_THROUGH
        elif taken:
            break
        else:
            long = step.pause_ms > 10_000
            kind = {
                Act.TYPE: OutcomeKind.DISAGREED if step.pause_ms else OutcomeKind.NOT_SEEN,
                Act.ENTER: OutcomeKind.DISAGREED,
                Act.BACKSPACE: OutcomeKind.DELETED,
                Act.DISMISS: OutcomeKind.DISMISSED,
            }.get(step.act, OutcomeKind.TIMED_OUT if long else OutcomeKind.MOVED_ON)
        assert rest == step.rest or not step.rest
    return Truth(kind, taken)


@CLIENTS
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_truth_follows_from_the_steps(client: Client, seed: int) -> None:
    for one in plan(seed, 300, client):
        assert replayed(one) == one.truth, one


@CLIENTS
def test_the_generator_says_the_suggestion_at_its_place_and_at_no_other(client: Client) -> None:
    interactions = plan(1, 300, client)
    rules = script(interactions)["rules"]
    for one in interactions:
        said = [rule["text"] for rule in rules if re.search(rule["pattern"], one.before)]
        assert said == [one.text]
        assert not [rule for rule in rules if re.search(rule["pattern"], one.given)]
        ends = [one.before + one.text[:cut] for cut in range(1, len(one.text) + 1)]
        assert not [end for end in ends for rule in rules if re.search(rule["pattern"], end)]


@pytest.mark.parametrize(
    ("text", "word", "line"),
    [
        ("_count + 1", "_count", "_count + 1"),
        (" + 1", " +", " + 1"),
        ("größe.値 = 1\nb", "größe", "größe.値 = 1"),
        ("\n    c = 1\n    d", "\n    ", "\n    c = 1"),
        ("🙂('x')", "🙂", "🙂('x')"),
    ],
)
def test_words_and_lines_are_those_of_the_plugin(text: str, word: str, line: str) -> None:
    assert text[: next_word(text)] == word
    assert text[: next_line(text)] == line


# --- counting


def logged(one: Interaction) -> tuple[Logged, ...]:
    return (Logged(one.truth.kind, Evidence.COMMAND, "", one.truth.accepted_chars),)


def test_only_one_row_of_the_true_kind_with_the_true_characters_is_right() -> None:
    interactions = plan(1, 40, NEOVIM_PLUGIN)
    accepted = next(one for one in interactions if one.truth.accepted_chars)
    rows = {one.number: logged(one) for one in interactions}
    assert score(NEOVIM_PLUGIN, interactions, rows).accuracy == 1.0

    right = rows[accepted.number][0]
    short = Logged(right.kind, right.evidence, "", right.accepted_chars - 1)
    other = Logged(OutcomeKind.DELETED, right.evidence, "", right.accepted_chars)
    for bad in [(), (right, right), (short,), (other,)]:
        report = score(NEOVIM_PLUGIN, interactions, {**rows, accepted.number: bad})
        assert [one.number for one in report.wrong()] == [accepted.number]
        assert report.right == 39
        assert not report.good


def test_the_table_has_a_row_per_client_and_a_column_per_evidence() -> None:
    interactions = plan(1, 40, BARE)
    report = score(BARE, interactions, {one.number: logged(one) for one in interactions[:38]})
    head, _, line = table([report]).splitlines()
    assert head.count("|") == line.count("|") == 8
    assert line.startswith("| bare LSP client | 40 | 95.0 % (83.5 to 98.6) | 38/38 | – |")
    told = report.to_json()
    assert (told["right"], told["interactions"], told["accuracy"]) == (38, 40, 0.95)
    assert sum(count for *_, count in told["confusion"]) == 40
    assert len(told["wrong"]) == 2


def test_rows_of_clients_that_did_not_run_stay_in_the_page() -> None:
    page = f"# Page\n\n{BEGIN}\n{END}\n\nmore\n"
    once = written(page, ["| a | 1 |", "| b | 2 |"])
    assert once == f"# Page\n\n{BEGIN}\n\n{head()}\n| a | 1 |\n| b | 2 |\n\n{END}\n\nmore\n"
    assert written(once, ["| b | 3 |", "| c | 4 |"]) == once.replace("| b | 2 |\n", "| b | 3 |\n| c | 4 |\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        written("# Page\n", [])


def test_the_interval_is_wilsons() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(9, 10)  # the values of the formula worked out by hand
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)


def test_rows_are_read_by_document_and_what_was_served_again_is_left_out(tmp_path: Path) -> None:
    uris = {1: "file:///case_0001.py", 2: "file:///case_0002.py"}
    key = hashed(salt(tmp_path), uris[1])
    database = sqlite3.connect(tmp_path / "coderl.db")
    with database:
        database.execute("CREATE TABLE contexts (id, document_key)")
        database.execute("CREATE TABLE decisions (id, context_id)")
        database.execute("CREATE TABLE outcomes (decision_id, kind, evidence, detail, accepted_chars)")
        database.executemany("INSERT INTO contexts VALUES (?, ?)", [("c1", key), ("c2", "other")])
        database.executemany("INSERT INTO decisions VALUES (?, ?)", [("d1", "c1"), ("d2", "c2")])
        rows = [
            ("d1", "not_seen", "inferred", "reserved", 0),
            ("d1", "accepted", "command", "", 5),
            ("d2", "deleted", "inferred", "", 0),
        ]
        database.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?)", rows)
    database.close()
    assert read(tmp_path, uris) == {1: (Logged(OutcomeKind.ACCEPTED, Evidence.COMMAND, "", 5),), 2: ()}
