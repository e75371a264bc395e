"""The demo's whole loop through real processes, with a generator that knows the files and is wrong at a set rate."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from rich.console import Console

from coderl_server.demo import DemoOptions, DemoReport, run_demo
from coderl_server.errors import InputError

LEARN, JUDGE = ("bisect.py", "heapq.py"), ("textwrap.py", "sched.py")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    folder = tmp_path_factory.mktemp("demo")
    library = Path(sysconfig.get_path("stdlib"))
    script = folder / "oracle.json"
    texts = [(library / name).read_text(encoding="utf-8") for name in (*LEARN, *JUDGE)]
    script.write_text(json.dumps({"oracle": {"texts": texts, "error_rate": 0.12, "seed": 5}}), encoding="utf-8")
    options = DemoOptions(
        max_requests=40,
        max_chars=900,
        picture=folder / "picture.png",
        backend="scripted",
        script=script,
        learn_files=LEARN,
        judge_files=JUDGE,
    )
    return run_demo(options, Console(quiet=True))


def test_the_json_has_the_promised_keys(report: DemoReport) -> None:
    figures = json.loads(json.dumps(report.to_json()))
    promised = {"requests", "routes", "generated", "shown", "withheld", "accepted", "partially_accepted", "records_lost"}
    assert promised | {"latency_ms", "policies"} <= set(figures)
    assert set(figures["routes"]) == {"skip", "draft", "full"}
    assert set(figures["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(figures["policies"]) == {"always_show", "never_show", "default_gate", "calibrated_gate"}
    assert all("seconds_saved_per_1000_keystrokes" in policy for policy in figures["policies"].values())


def test_the_counters_agree_with_each_other(report: DemoReport) -> None:
    total = report.total
    assert sum(total.routes.values()) == total.requests == total.shown + total.withheld
    assert total.generated <= total.requests - total.routes["skip"]
    assert total.accepted + total.partially_accepted + total.wrong_suggestions_seen + total.late == total.shown
    assert report.records_lost == 0


def test_silence_saves_nothing_and_a_generator_that_is_often_right_does(report: DemoReport) -> None:
    assert report.policies["never_show"].seconds_saved_per_1000_keystrokes == 0
    always = report.policies["always_show"]
    assert always.low <= always.seconds_saved_per_1000_keystrokes <= always.high
    assert always.seconds_saved_per_1000_keystrokes > 0
    assert always.shown >= report.policies["calibrated_gate"].shown


def test_the_picture_is_a_picture(report: DemoReport) -> None:
    assert report.picture.read_bytes().startswith(b"\x89PNG")


def test_the_table_names_every_policy(report: DemoReport) -> None:
    console = Console(record=True, width=100)
    report.render(console)
    text = console.export_text()
    for words in ("always show", "never show", "shipped gate", "calibrated gate", "records were lost", "No training step"):
        assert words in text


def test_a_generator_without_weights_is_not_trained(report: DemoReport) -> None:
    assert report.to_json()["training"] == {"absent": "No training step: the generator scripted has no weights here."}


def test_a_python_without_sources_is_said_in_a_sentence(tmp_path: Path) -> None:
    options = DemoOptions(backend="scripted", learn_files=("no_such_module.py",), picture=tmp_path / "p.png")
    with pytest.raises(InputError, match="no_such_module"):
        run_demo(options, Console(quiet=True))
