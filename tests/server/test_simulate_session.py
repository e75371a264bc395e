"""What a simulation is told and what it reports; the session itself, on a real server, is in tests/e2e/sessions."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from rich.console import Console

from coderl_gate.costs import CostParameters
from coderl_server.errors import InputError, ServerFailed
from coderl_server.simulate import Counters, FileReport, SimulateOptions, SimulateReport, run
from coderl_server.simulate.client import Editor
from coderl_server.simulate.identity import session_id
from coderl_server.simulate.options import read_typescripts
from coderl_server.simulate.programmer import Habit, PauseHabits
from coderl_store.records import Privacy

SOURCE = "def double(value):\n    return value * 2\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"files": ()}, "at least one file"),
        ({"chars_per_second": 0.0}, "chars per second"),
        ({"chars_per_second": float("inf")}, "chars per second"),
        ({"max_chars": 0}, "max chars"),
        ({"max_requests": -1}, "max requests"),
        ({"latency_ms": -1.0}, "latency"),
        ({"dismiss_probability": 1.5}, "dismissals"),
        ({"rule": "zz"}, "The rule must be one of entropy, .*, not 'zz'"),
        ({"privacy": "zz"}, "The privacy level must be one of off, metrics, code, not 'zz'"),
        ({"backend": "zz"}, "no backend `zz`"),
        ({"backend": "nowhere.Backend"}, "cannot be imported"),
        ({"backend": "openai"}, "needs an endpoint"),
        ({"backend": "scripted", "script": Path("/nonexistent.json")}, "nonexistent.json"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(source: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SimulateOptions(**{"files": (source,), **wrong})


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"\xff\xfe\x00", "not UTF-8 text"), (b"a\0b", "NUL bytes")]
)
def test_a_file_nobody_can_type_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "odd.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        run(SimulateOptions(files=(path,)))


def test_a_long_file_is_typed_in_part_with_the_rest_in_place(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text(SOURCE * 30, encoding="utf-8")
    (typescript,) = read_typescripts(SimulateOptions(files=(path,), max_chars=200, seed=4))
    typed = "".join(key.text for key in typescript.keys)
    assert typed == typescript.text[typescript.start : typescript.end]
    assert 100 < len(typed) <= 200
    assert typescript.text[typescript.end] == "\n"  # the cursor never stands before text of its own line


def test_the_server_is_started_as_told(source: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}", encoding="utf-8")
    options = SimulateOptions(
        files=(source,),
        seed=9,
        backend="scripted",
        script=tmp_path / "s.json",
        home=tmp_path / "home",
        privacy="code",
        eagerness=0.5,
    )
    command = options.command()
    assert command[:4] == [sys.executable, "-m", "coderl_server", "lsp"]
    assert " ".join(command[4:]).startswith("--clock client --seed 9 --origin simulated --backend scripted --script ")
    environment = options.environment({"CODERL_DATABASE_URL": "sqlite:////elsewhere", "PATH": "p"})
    assert environment == {"PATH": "p", "CODERL_HOME": str(tmp_path / "home"), "CODERL_PRIVACY": "code"}
    assert options.wire_settings() == {
        "rule": "entropy",
        "eagerness": 0.5,
        "privacy": "code",
        "reportRecorded": True,
        "deadlineMs": 60_000,
    }


def identity_of(gate_id: str = "gate-1", privacy: Privacy = Privacy.METRICS, **options: Any) -> str:
    chosen = SimulateOptions(**options)
    return session_id(chosen, read_typescripts(chosen), gate_id, privacy)


def test_only_a_true_repetition_has_the_same_session_id(source: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {"files": (source,), "backend": "scripted"}
    first = identity_of(**told)
    assert identity_of(**told) == identity_of(**told, home=tmp_path / "elsewhere") == first
    script = tmp_path / "script.json"
    script.write_text("{}", encoding="utf-8")
    others = [
        identity_of(**told, **other)
        for other in (
            {"seed": 1},
            {"rule": "never_show"},
            {"eagerness": 0.1},
            {"epsilon_skip": 0.5},
            {"settings": {"maxTokens": 7}},
            {"habits": PauseHabits(word_end=Habit(0.2, 0.5))},
            {"gate_id": "gate-2"},
            {"privacy": Privacy.CODE},
            {"script": script},
        )
    ]
    script.write_text('{"default": {"text": "pass"}}', encoding="utf-8")
    others.append(identity_of(**told, script=script))
    source.write_text(SOURCE + "\n", encoding="utf-8")
    others.append(identity_of(**told))
    assert len({first, *others}) == 1 + len(others)


def test_the_cost_model_types_at_the_speed_of_the_programmer(source: Path) -> None:
    assert SimulateOptions(files=(source,), chars_per_second=8.0).cost_parameters == CostParameters(typing_chars_per_s=8.0)
    own = CostParameters(verify_base_s=1.0)
    assert SimulateOptions(files=(source,), costs=own).cost_parameters is own


def at(line: int, start: int, end: int) -> types.Range:
    return types.Range(types.Position(line, start), types.Position(line, end))


@pytest.mark.parametrize(
    ("insert_text", "replaced", "new_text", "usable"),
    [
        ("turn x", at(1, 6, 6), "turn x", True),
        ("return x", at(1, 4, 6), "turn x", True),  # repeats "re"
        ("𝕏return x", at(1, 2, 6), "turn x", False),  # repeats something else
        ("turn x", at(0, 6, 6), "turn x", False),  # another line
        ("turn x", at(1, 6, 7), "turn x", False),  # replaces what is not there
        ("turn x", None, "turn x", True),
    ],
)
def test_items_are_read_as_the_programmer_sees_them(
    insert_text: str, replaced: types.Range | None, new_text: str, usable: bool
) -> None:
    editor = Editor("test")
    editor.text = "x\n    re"
    editor.cursor.advance(editor.text)
    item = types.InlineCompletionItem(insert_text, range=replaced, command=types.Command("take", "c", arguments=["id-1"]))
    offer = editor.offer(item)
    assert (offer.usable, offer.suggestion_id) == (usable, "id-1")
    if usable:
        assert offer.new_text == new_text
        assert offer.repeated + offer.new_text == insert_text


def test_an_item_without_its_id_is_a_broken_promise() -> None:
    with pytest.raises(ServerFailed, match="names its id"):
        Editor("test").offer(types.InlineCompletionItem("x"))


def counters() -> Counters:
    made = Counters(requests=4, generated=3, shown=3, withheld=1, accepted=1, partially_accepted=1, wrong_suggestions_seen=1)
    made.routes["full"], made.routes["skip"] = 3, 1
    made.keystrokes, made.keystrokes_without, made.keystrokes_saved, made.seconds_saved = 80, 100, 18, -1.5
    made.latencies_ms = [1.0, 3.0]
    return made


def test_counters_add_up() -> None:
    total = Counters()
    total.add(counters())
    total.add(counters())
    assert total.requests == 8
    assert total.routes == {"skip": 2, "draft": 0, "full": 6}
    assert total.seconds_saved == -3.0
    assert total.latencies_ms == [1.0, 3.0, 1.0, 3.0]
    assert total.seconds_saved_per_1000_keystrokes == -15.0


def test_the_report_as_json_has_the_stable_keys() -> None:
    report = SimulateReport(7, (FileReport("a.py", counters()),), counters(), 10, 0, "d" * 64)
    content = report.to_json()
    stable = {
        "seed",
        "requests",
        "routes",
        "generated",
        "shown",
        "withheld",
        "accepted",
        "partially_accepted",
        "records_lost",
        "latency_ms",
        "keystrokes_saved",
        "wrong_suggestions_seen",
    }
    assert stable <= content.keys()
    assert content["latency_ms"] == {"p50": 2.0, "p95": 2.9, "p99": 2.98}
    assert content["files"][0]["file"] == "a.py"
    assert {*content["files"][0]} - {"file"} <= {*content}


def test_nothing_typed_is_not_a_rate_of_zero() -> None:
    content = SimulateReport(7, (), Counters(), 0, None, "").to_json()
    assert content["seconds_saved_per_1000_keystrokes"] is None
    assert content["records_lost"] is None
    assert content["latency_ms"]["p50"] is None


def test_the_report_for_people_names_files_and_losses() -> None:
    out = io.StringIO()
    parts = (FileReport("dir/a.py", counters()), FileReport("dir/b.py", counters()))
    SimulateReport(7, parts, counters(), 10, 2, "d", ("No model [is] there.",)).render(Console(file=out, width=140))
    text = out.getvalue()
    assert all(
        word in text
        for word in ("a.py", "b.py", "in all", "lost", "2 acknowledged records are MISSING", "No model [is] there.")
    )


def test_a_server_that_cannot_be_started_is_said_in_a_sentence(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="could not be started"):
        run(SimulateOptions(files=(source,), server_command=(str(tmp_path / "nowhere"),)))


def test_a_server_that_dies_is_reported_with_its_last_words(source: Path) -> None:
    dying = (sys.executable, "-c", "import sys; sys.exit('no gate today')")
    with pytest.raises(ServerFailed, match=r"exit status 1(.|\n)*no gate today"):
        run(SimulateOptions(files=(source,), server_command=dying))
