"""The loop with a scripted model: answers, budgets, malformed calls, resumption, compaction, planning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.generator.agent.conftest import Bench

from coderl_generator.agent.loop import Status
from coderl_generator.agent.permissions import Kind, Permissions, Rule
from coderl_generator.agent.trajectory import Recorder, read_trajectory
from coderl_generator.errors import BadTrajectory

Calling = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("native", [True, False])
def test_reason_act_observe_answer(bench: Bench, calling: Calling, native: bool) -> None:
    bench.write({"a.py": "x = 1\n"})
    answer = "x is 1 (a.py:1)." if native else "<answer>x is 1 (a.py:1).</answer>"
    ran = bench.run([calling("read_file", path="a.py"), answer], native=native)
    assert ran.ended.status is Status.ANSWERED
    assert ran.ended.answer == "x is 1 (a.py:1)."
    assert ran.ended.spent.steps == 2
    assert ran.heard.observations[0].text == "a.py:1-1 of 1 lines\n1\tx = 1"
    assert not ran.session.bad_citations(ran.ended)
    messages = ran.session.agent.conversation.messages
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "tool" if native else "user", "assistant"]
    assert ("<tool_call>" in messages[0]["content"]) is not native


def test_an_answer_that_cites_what_is_not_there(bench: Bench) -> None:
    bench.write({"a.py": "x = 1\n"})
    ran = bench.run(["See a.py:1-9, b.py:3 and a.py:1."])
    assert [one.text for one in ran.session.bad_citations(ran.ended)] == ["a.py:1-9", "b.py:3"]
    assert ran.trajectory.end is not None
    assert [bool(one["objection"]) for one in ran.trajectory.end["citations"]] == [True, True, False]


@pytest.mark.parametrize("native", [True, False])
def test_malformed_calls_get_one_correction_each_and_the_third_in_a_row_ends_the_run(
    bench: Bench, calling: Calling, native: bool
) -> None:
    bench.write({"a.py": "x = 1\n"})
    bad, good = calling("read_file", file="a.py"), calling("read_file", path="a.py")
    ran = bench.run([bad, bad, good, bad, bad, bad, good, "never"], native=native)
    assert ran.ended.status is Status.MALFORMED
    assert ran.ended.spent.steps == 6
    outcomes = [line["outcome"] for line in ran.trajectory.of("call")]
    assert outcomes == ["malformed", "malformed", "done", "malformed", "malformed", "malformed"]
    assert "takes no argument 'file'" in ran.heard.observations[0].text


def test_neither_call_nor_answer_is_malformed_in_the_text_protocol(bench: Bench) -> None:
    ran = bench.run(["hm", "hm", "hm"], native=False)
    assert ran.ended.status is Status.MALFORMED
    assert "neither a call nor an answer" in ran.heard.notices[0]


def test_an_empty_message_is_malformed(bench: Bench) -> None:
    assert bench.run(["", " ", ""]).ended.status is Status.MALFORMED


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        ({"max_steps": 3}, "3 steps"),
        ({"max_tokens": 500}, "500 tokens"),
        ({"max_seconds": 0.03}, "0.03 s"),
        ({"max_cost": 0.001, "prompt_price": 2.0, "reply_price": 2.0}, "a cost of 0.001"),
    ],
)
def test_budgets(bench: Bench, calling: Calling, limits: dict[str, Any], detail: str) -> None:
    ran = bench.run([calling("list_files")] * 50, **limits)
    assert ran.ended.status is Status.BUDGET
    assert ran.ended.detail == detail
    assert 1 <= ran.ended.spent.steps < 50


def test_the_model_is_told_when_steps_run_out(bench: Bench, calling: Calling) -> None:
    ran = bench.run([calling("list_files")] * 9, max_steps=4)
    told = [one["content"] for one in ran.session.agent.conversation.messages if one["role"] == "tool"]
    assert ["steps left" in text or "step left" in text for text in told] == [True, True, True, True]


def test_an_endpoint_that_fails_ends_the_run_and_it_can_be_taken_up(bench: Bench, calling: Calling) -> None:
    first = [calling("write_file", path="a.txt", content="a\n"), {"fails": True}]
    assert bench.run(first).ended.status is Status.FAILED
    ran = bench.run([*first[:1], calling("write_file", path="b.txt", content="b\n"), "done"], resume=True)
    assert ran.ended.status is Status.ANSWERED
    assert ran.ended.spent.steps == 3
    assert (bench.text("a.txt"), bench.text("b.txt")) == ("a\n", "b\n")
    diff = ran.session.diff()
    assert "+++ b/a.txt" in diff
    assert "+++ b/b.txt" in diff


def cut_before(bench: Bench, kind: str) -> None:
    """The record as a kill left it, just before the last line of a kind, with half a line behind."""
    lines = bench.record.read_bytes().split(b"\n")[:-1]
    at = max(number for number, line in enumerate(lines) if f'"kind": "{kind}"'.encode() in line)
    bench.record.write_bytes(b"".join(line + b"\n" for line in lines[:at]) + lines[at][:20])


def test_a_call_that_was_killed_half_way_is_not_repeated_blindly(bench: Bench, calling: Calling) -> None:
    script = [calling("write_file", path="a.txt", content="a\n"), "done"]
    bench.run(script)
    cut_before(bench, "call")
    ran = bench.run(script, resume=True)
    assert ran.ended.answer == "done"
    (line,) = ran.trajectory.of("call")
    assert line["outcome"] == "interrupted"


@pytest.mark.parametrize("native", [True, False])
def test_a_call_that_was_not_begun_is_made(bench: Bench, calling: Calling, native: bool) -> None:
    script = [calling("write_file", path="a.txt", content="a\n"), "done" if native else "<answer>done</answer>"]
    bench.run(script, native=native)
    (bench.root / "a.txt").unlink()
    cut_before(bench, "begun")
    ran = bench.run(script, resume=True, native=native)
    assert ran.ended.answer == "done"
    assert bench.text("a.txt") == "a\n"


def test_what_is_said_at_a_resumption_comes_behind_the_open_calls(bench: Bench, calling: Calling) -> None:
    script = [calling("write_file", path="a.txt", content="a\n"), "done"]
    bench.run(script)
    cut_before(bench, "call")
    ran = bench.run(script, resume=True, say="and be quick")
    roles = [one["role"] for one in ran.session.agent.conversation.messages]
    assert roles == ["system", "user", "assistant", "tool", "user", "assistant"]
    assert ran.session.agent.conversation.messages[4]["content"] == "and be quick"


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_run_that_was_killed_at_once_is_taken_up(bench: Bench, lines: int) -> None:
    bench.run(["done"], task="the task")
    kept = bench.record.read_bytes().split(b"\n")[:lines]
    bench.record.write_bytes(b"".join(line + b"\n" for line in kept))
    ran = bench.run(["done"], resume=True)
    assert [one["content"] for one in ran.session.agent.conversation.messages][1:] == ["the task", "done"]
    assert ran.ended.status is Status.ANSWERED


def test_a_changed_file_that_became_a_folder_does_not_break_the_end(bench: Bench, calling: Calling) -> None:
    ran = bench.run([calling("write_file", path="a.txt", content="a\n"), "done"])
    (bench.root / "a.txt").unlink()
    (bench.root / "a.txt").mkdir()
    assert ran.session.diff() == ""


def test_a_run_is_taken_up_in_the_way_it_calls_tools(bench: Bench, calling: Calling) -> None:
    bench.run([calling("list_files"), {"fails": True}], native=False)
    with pytest.raises(BadTrajectory, match="text protocol"):
        bench.run(["x"], resume=True)


def test_observations_fit_a_small_context(bench: Bench, calling: Calling) -> None:
    bench.write({"long.txt": "".join(f"line {number}\n" for number in range(2000))})
    ran = bench.run([calling("read_file", path="long.txt"), "done"], context_tokens=2048)
    assert len(ran.heard.observations[0].text) < 2_200


def test_a_record_is_written_by_one_process_at_a_time(bench: Bench) -> None:
    recorder = Recorder(bench.record, bench.clock)
    with pytest.raises(BadTrajectory, match="another process"):
        Recorder(bench.record, bench.clock)
    recorder.close()


@pytest.mark.parametrize(
    "data", ["", "{}\n", '{"kind": "start", "format": 99}\n', '{"kind": "start", "format": 1}\nx\n{"kind": "end"}\n']
)
def test_what_is_no_record(bench: Bench, data: str) -> None:
    bench.record.write_text(data)
    with pytest.raises(BadTrajectory):
        read_trajectory(bench.record)


def long_script(calling: Calling) -> list[Any]:
    reads = [calling("read_file", path="long.txt", start=1 + 100 * n, end=100 + 100 * n) for n in range(6)]
    return [calling("write_file", path="made.txt", content="x\n"), *reads]


def test_compaction_replaces_older_turns_and_keeps_them_on_record(bench: Bench, calling: Calling) -> None:
    bench.write({"long.txt": "".join(f"line {number} of a long file\n" for number in range(1, 1001))})
    ran = bench.run([*long_script(calling), "summary: nothing yet", "done"], task="find the needle", context_tokens=7_000)
    assert ran.ended.status is Status.ANSWERED, ran.ended
    assert ran.session.agent.compactor.count == 1
    messages = ran.session.agent.conversation.messages
    summary = next(one["content"] for one in messages if "Older turns were replaced" in str(one["content"]))
    assert "Files changed so far: made.txt." in summary
    assert "summary: nothing yet" in summary
    assert messages[1]["content"] == "find the needle"
    dropped = ran.trajectory.dropped()
    assert any("line 1 of a long file" in str(line["message"]["content"]) for line in dropped)
    called = {one["id"] for message in messages for one in message.get("tool_calls", ())}
    assert {one["tool_call_id"] for one in messages if one["role"] == "tool"} == called
    again = bench.run(["said already"] * 9 + ["and done"], resume=True)
    assert again.session.agent.conversation.messages[: len(messages)] == messages


def test_compaction_that_is_not_wanted(bench: Bench, calling: Calling) -> None:
    bench.write({"long.txt": "".join(f"line {number} of a long file\n" for number in range(1, 1001))})
    ran = bench.run([*long_script(calling), "done"], context_tokens=7_000, compaction="error")
    assert ran.ended.status is Status.BUDGET
    assert "--compaction auto" in ran.ended.detail


def test_compaction_switched_off_changes_nothing(bench: Bench, calling: Calling) -> None:
    bench.write({"long.txt": "".join(f"line {number} of a long file\n" for number in range(1, 1001))})
    ran = bench.run([*long_script(calling), "done"], context_tokens=7_000, compaction="off")
    assert ran.ended.status is Status.ANSWERED
    assert not ran.trajectory.dropped()


def test_a_summary_that_fails_does_not_end_the_run(bench: Bench, calling: Calling) -> None:
    bench.write({"long.txt": "".join(f"line {number} of a long file\n" for number in range(1, 1001))})
    ran = bench.run([*long_script(calling), {"fails": True}, "done"], context_tokens=7_000)
    assert ran.ended.status is Status.ANSWERED
    assert "gave no summary" in str(ran.session.agent.conversation.messages)


def test_a_plan_is_made_first_and_revised_on_record(bench: Bench, calling: Calling) -> None:
    script = [
        "1. Read a.py",
        calling("read_file", path="a.py"),
        calling("revise_plan", plan="1. Make a.py", because="there is no a.py"),
        calling("write_file", path="a.py", content="x = 1\n"),
        "done",
    ]
    ran = bench.run(script, use_planning=True)
    assert ran.ended.status is Status.ANSWERED
    assert [(line["plan"], line["because"]) for line in ran.trajectory.of("plan")] == [
        ("1. Read a.py", "the task"),
        ("1. Make a.py", "there is no a.py"),
    ]
    messages = ran.session.agent.conversation.messages
    assert "1. Read a.py" in messages[2]["content"]
    failed = next(one["content"] for one in messages if one["role"] == "tool")
    assert "call revise_plan first" in failed


def test_denied_and_refused_calls_are_observations_and_the_run_goes_on(bench: Bench, calling: Calling) -> None:
    script = [calling("write_file", path="a.txt", content="x"), calling("write_file", path="../a.txt", content="x"), "done"]
    ran = bench.run(script, permissions=Permissions())
    assert [one.outcome for one in ran.heard.observations] == ["denied", "refused"]
    assert ran.ended.status is Status.ANSWERED
    assert not (bench.root / "a.txt").exists()


def test_a_dry_run_shows_the_diff_and_touches_nothing(bench: Bench, calling: Calling) -> None:
    bench.write({"a.py": "x = 1\n"})
    script = [calling("edit_file", path="a.py", old="1", new="2"), calling("read_file", path="a.py"), "done"]
    ran = bench.run(script, dry_run=True, permissions=Permissions((Rule(Kind.WRITE),)))
    assert bench.text("a.py") == "x = 1\n"
    assert "Dry run" in ran.heard.observations[0].text
    assert "x = 2" in ran.heard.observations[1].text
    assert "+x = 2" in ran.session.diff()


def test_several_calls_in_one_message(bench: Bench) -> None:
    calls = [{"name": "write_file", "arguments": {"path": f"{name}.txt", "content": "x\n"}} for name in "ab"]
    ran = bench.run([{"calls": calls}, "done"])
    assert [one.outcome for one in ran.heard.observations] == ["done", "done"]
    assert len({line["id"] for line in ran.trajectory.of("call")}) == 2
