from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.extract import Mode
from coderl_generator.scripted import Rule, Script, ScriptedBackend, split
from coderl_generator.stop_rules import Reason
from coderl_store.clock import VirtualClock
from coderl_trainer.environment import Asked, Environment, mode_of
from coderl_trainer.errors import DatumError, TaskError
from coderl_trainer.tasks import load_humaneval_infilling, load_mbpp, load_quixbugs, shipped_tasks
from coderl_trainer.types import Sample, StopReason, Task, TaskKind

END = 0
TASKS = tuple(task for task in shipped_tasks() if task.prompt)
"""One of them begins an empty file: there is nothing for a policy to go on from."""


class Pieces:
    """A tokenizer whose vocabulary is every word piece it has met; those of the scripted double."""

    def __init__(self) -> None:
        self.texts = ["<end>"]
        self.ids = {"<end>": END}

    def encode(self, text: str) -> list[int]:
        for piece in split(text):
            if piece not in self.ids:
                self.ids[piece] = len(self.texts)
                self.texts.append(piece)
        return [self.ids[piece] for piece in split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.texts[one] for one in ids)


class Bytes:
    """A tokenizer of bytes, the last id of which ends a sequence."""

    end = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "surrogatepass"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(one for one in ids if one != self.end).decode("utf-8", "replace")


def environment(budget: Budget | None = None) -> tuple[Environment, Pieces]:
    pieces = Pieces()
    return Environment(pieces.encode, pieces.decode, (END,), budget or Budget()), pieces


def sample(tokens: Sequence[int], stop: StopReason = StopReason.STOP) -> Sample:
    return Sample(tuple(tokens), tuple(-0.5 - at / 100 for at in range(len(tokens))), stop, 0)


def served(asked: Asked, text: str, budget: Budget, finish: FinishReason = FinishReason.END) -> tuple[Completion, str]:
    """What the language server's generation makes of a model that says `text`, and the prompt it sent."""
    clock = VirtualClock()
    backend = ScriptedBackend(clock, Script(default=Rule(text, finish=finish)))
    done = asyncio.run(complete(backend, asked.place, replace(budget, mode=asked.mode), clock.now_s))
    return done, backend.requests[0].prompt


def said(asked: Asked) -> str:
    """The reference as a model would write it, and then something else."""
    return asked.prompt.trimmed + (asked.task.reference or "") + "\n\n\nprint(1)\n"


# -- the same rules as in serving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_prompts_and_texts_are_those_of_the_language_server(task: Task) -> None:
    ours, pieces = environment()
    asked = ours.ask(task)
    completion, prompt = served(asked, said(asked), replace(ours.budget, max_tokens=400))
    assert asked.prompt.text == prompt
    assert pieces.decode(asked.tokens) == prompt
    read = ours.read(asked, sample([*pieces.encode(said(asked)), END]))
    assert read.text == completion.text
    assert read.text == (task.reference or "").rstrip()


DOCUMENT = st.text(st.sampled_from("ab :=()\n#"), min_size=1, max_size=80)
ANSWER = st.text(st.sampled_from("ab :=()\n#`"), max_size=60)


@given(DOCUMENT, DOCUMENT, ANSWER, st.sampled_from(["x", "x\ny"]))
def test_any_place_and_any_answer_are_read_alike(prefix: str, suffix: str, text: str, reference: str) -> None:
    task = Task("t", TaskKind.INFILL, prefix, suffix=suffix, reference=reference)
    ours, pieces = environment()
    asked = ours.ask(task)
    completion, prompt = served(asked, text, replace(ours.budget, max_tokens=400))
    read = ours.read(asked, sample([*pieces.encode(text), END]))
    assert asked.prompt.text == prompt
    assert (read.text, read.reason, read.finish) == (completion.text, completion.reason, completion.finish)
    assert len(read.token_ids) == len(completion.token_ids)


def test_nothing_is_forced_in_training() -> None:
    """The server heals the begun word where the backend can; here the place stays inside the word."""
    task = Task("t", TaskKind.INFILL, "def f(x):\n    retu", suffix="\n", reference="rn x")
    asked = environment()[0].ask(task)
    assert not asked.prompt.forced
    assert asked.prompt.wanted == ""
    assert asked.prompt.text.endswith("retu")


def test_a_long_prefix_is_cut_to_the_server_s_window() -> None:
    task = Task("t", TaskKind.FUNCTION, "x = 1\n" * 2000 + "def f():\n    ", reference="return 1")
    ours, _ = environment(Budget(max_prefix_chars=500, anchor_chars=100))
    asked = ours.ask(task)
    assert len(asked.prompt.text) <= 500
    assert asked.prompt.text == served(asked, "", ours.budget)[1]


# -- rows to learn from -----------------------------------------------------------------------------------------------------


@given(DOCUMENT, ANSWER, st.sampled_from(["x", "x\ny"]), st.sampled_from(StopReason), st.floats(-3, 3))
def test_a_row_is_the_prompt_and_the_tokens_up_to_the_stop(
    prefix: str, text: str, reference: str, stop: StopReason, advantage: float
) -> None:
    ours, pieces = environment()
    asked = ours.ask(Task("t", TaskKind.INFILL, prefix, reference=reference))
    drawn = sample([*pieces.encode(text), *([END] if stop is StopReason.STOP else [])], stop)
    if not drawn.tokens:
        with pytest.raises(DatumError):
            ours.datum(asked, drawn, advantage)
        return
    row = ours.datum(asked, drawn, advantage)
    learned = int(sum(row.mask))
    read = ours.read(asked, drawn)
    assert learned in (read.tokens_used, read.tokens_used + 1)  # the token that ends a sequence has no text
    assert row.input_tokens == (*asked.tokens, *drawn.tokens[:learned])[:-1]
    assert row.target_tokens == (*asked.tokens, *drawn.tokens[:learned])[1:]
    before = len(asked.tokens) - 1
    assert row.mask == (0.0,) * before + (1.0,) * learned
    assert row.behaviour_logprobs == (0.0,) * before + drawn.logprobs[:learned]
    assert row.advantages == (0.0,) * before + (advantage,) * learned


def test_what_was_sampled_behind_the_end_is_not_learned() -> None:
    ours, pieces = environment()
    asked = ours.ask(Task("t", TaskKind.INFILL, "def f(x):\n    return ", suffix="\n", reference="x + 1"))
    row = ours.datum(asked, sample(pieces.encode(" x + 1\nprint(f(1))\nand more")), 1.0)
    assert pieces.decode(row.target_tokens[len(asked.tokens) - 1 :]) == " x + 1\n"
    ended = ours.datum(asked, sample([*pieces.encode(" x"), END, *pieces.encode(" + 1")]), 1.0)
    assert ended.target_tokens[-1] == END


def test_a_sample_that_was_cut_off_can_be_told() -> None:
    ours, pieces = environment()
    asked = ours.ask(Task("t", TaskKind.INFILL, "def f(x):\n    return ", suffix="\n", reference="x + 1"))
    cut = ours.read(asked, sample(pieces.encode(" x +"), StopReason.LENGTH))
    assert (cut.finish, cut.reason) == (FinishReason.LENGTH, Reason.LENGTH)
    whole = ours.read(asked, sample(pieces.encode(" x + 1\n    y"), StopReason.LENGTH))
    assert (whole.finish, whole.reason, whole.text) == (FinishReason.STOP, Reason.LINE, "x + 1")
    stopped = ours.read(asked, sample(pieces.encode(" x + 1")))
    assert (stopped.finish, stopped.text) == (FinishReason.STOP, "x + 1")


@given(st.text(st.sampled_from("aé→😀 "), min_size=1, max_size=12).filter(str.strip))
def test_characters_of_several_tokens_are_read_whole(text: str) -> None:
    tokenizer = Bytes()
    ours = Environment(tokenizer.encode, tokenizer.decode, (Bytes.end,), Budget(filters=False))
    asked = ours.ask(Task("t", TaskKind.INFILL, "é = (", suffix="\n", reference="x"))
    read = ours.read(asked, sample([*tokenizer.encode(text), Bytes.end]))
    assert read.text == text.rstrip()
    assert sum(ours.datum(asked, sample([*tokenizer.encode(text), Bytes.end]), 1.0).mask) == len(text.encode()) + 1


# -- references -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_a_reference_is_read_as_itself(task: Task) -> None:
    """What supervised learning teaches, sampled, is the right text and comes to an end."""
    ours, pieces = environment()
    asked, row = ours.ask(task), ours.sft_datum(task)
    tokens = row.target_tokens[len(asked.tokens) - 1 :]
    assert row.mask == (0.0,) * (len(asked.tokens) - 1) + (1.0,) * len(tokens)
    assert not any(row.behaviour_logprobs)
    read = ours.read(asked, sample(tokens))
    assert read.text.rstrip() == (task.reference or "").rstrip()
    assert ours.readable(task)
    assert tokens[-1] == END or "\n" in pieces.decode(tokens[-1:])
    if asked.mode is Mode.SINGLE_LINE and tokens[-1] != END:
        assert "\n" not in pieces.decode(tokens[:-1]).strip("\n ")
        assert int(sum(ours.datum(asked, sample(tokens), 1.0).mask)) == len(tokens)


@given(DOCUMENT, st.text(st.sampled_from("ab =("), min_size=1, max_size=30).filter(str.strip), DOCUMENT)
def test_the_tokens_of_a_reference_spell_it(prefix: str, reference: str, suffix: str) -> None:
    task = Task("t", TaskKind.INFILL, prefix, suffix=suffix, reference=reference)
    ours, pieces = environment()
    asked, row = ours.ask(task), ours.sft_datum(task)
    answer = asked.prompt.trimmed + reference
    written = pieces.decode([one for one in row.target_tokens[len(asked.tokens) - 1 :] if one != END])
    assert written.startswith(answer)
    assert (answer + suffix).startswith(written) or row.target_tokens[-1] == END
    assert (row.target_tokens[-1] == END) == ("\n" not in suffix)


def test_the_line_break_is_taken_as_the_file_has_it() -> None:
    task = Task("t", TaskKind.INFILL, "def f(x):\n    y = ", suffix="\n    return y\n", reference="x + 1")
    ours, pieces = environment()
    assert pieces.decode(ours.sft_datum(task).target_tokens[-5:]) == " y = x + 1\n    "[4:]
    rest = replace(task, prompt="def f(x):\n    y = g(", suffix=") * 2\n")
    assert pieces.decode(ours.sft_datum(rest).target_tokens).endswith("x + 1) * 2\n")
    assert ours.read(ours.ask(rest), sample(pieces.encode("x + 1) * 2\n"))).text == "x + 1"


def test_where_no_line_break_follows_the_sequence_ends() -> None:
    ours, pieces = environment()
    row = ours.sft_datum(Task("t", TaskKind.FUNCTION, "def f():\n    ", reference="return 1"))
    assert row.target_tokens[-1] == END
    fim = replace(ours, budget=Budget(template="qwen2.5-coder"))
    task = Task("t", TaskKind.INFILL, "x = ", suffix="\ny = 2\n", reference="1")
    row = fim.sft_datum(task)
    assert [pieces.texts[one] for one in row.target_tokens[-2:]] == ["1", "<end>"]
    assert pieces.decode(fim.ask(task).tokens) == "<|fim_prefix|>x = <|fim_suffix|>\ny = 2\n<|fim_middle|>"


def test_a_template_that_continues_ends_at_the_line_break() -> None:
    ours, pieces = environment()
    taught = replace(ours, budget=Budget(template="smollm2-spm"))
    task = Task("t", TaskKind.INFILL, "def f(x):\n    y = ", suffix="\n    return y\n", reference="x + 1")
    asked, row = taught.ask(task), taught.sft_datum(task)
    assert pieces.decode(asked.tokens) == "<jupyter_text>\n    return y\n<jupyter_code>def f(x):\n    y ="
    assert pieces.decode(row.target_tokens[len(asked.tokens) - 1 :]) == " x + 1\n    "
    assert taught.readable(task)


def test_a_prompt_that_ends_inside_a_token_of_the_whole() -> None:
    """`foo` and `ba` are a word of two pieces; with its rest the word is cut elsewhere, and the rest stands for itself."""
    task = Task("t", TaskKind.INFILL, "x = foo", suffix="\n", reference="ba")
    ours, pieces = environment()
    asked, row = ours.ask(task), ours.sft_datum(task)
    assert pieces.decode(row.target_tokens[len(asked.tokens) - 1 :]) == "ba\n"


class Restless(Pieces):
    """A tokenizer that writes a long text in capitals: it cannot write an answer behind a prompt."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.upper() if len(text) > 8 else text)


def test_what_cannot_be_asked_or_learned_is_refused() -> None:
    ours, _ = environment()
    with pytest.raises(TaskError, match="is empty"):
        ours.ask(Task("t", TaskKind.FUNCTION, "", reference="x"))
    with pytest.raises(TaskError, match="places/missing-import is empty"):
        ours.sft_datum(next(task for task in shipped_tasks() if not task.prompt))
    with pytest.raises(TaskError, match="no reference"):
        ours.sft_datum(Task("t", TaskKind.FUNCTION, "x", visible_tests=("assert f()",)))
    with pytest.raises(TaskError, match="template `suffix`"):
        replace(ours, budget=Budget(template="suffix"))
    with pytest.raises(TaskError, match="no prompt template"):
        replace(ours, budget=Budget(template="qwen"))
    with pytest.raises(TaskError, match="cannot be rendered"):
        replace(ours, budget=Budget(anchor_chars=5000))
    with pytest.raises(TaskError, match="token that ends a sequence"):
        replace(ours, ends=())
    restless = Restless()
    with pytest.raises(TaskError, match="cannot write the answer"):
        Environment(restless.encode, restless.decode, (END,)).sft_datum(
            Task("t", TaskKind.FUNCTION, "x = y", reference="an answer of some length")
        )


def test_an_answer_that_would_not_be_shown_is_not_readable() -> None:
    ours, _ = environment()
    task = Task("t", TaskKind.FUNCTION, "def f(x):\n", reference="    while x:\n        x -= 1\n    return x\n")
    assert ours.readable(task)
    assert not ours.readable(replace(task, reference="    while x:\n        x -= 1\n\n    return x\n"))
    with pytest.raises(TaskError, match="no reference"):
        ours.readable(replace(task, reference=None, visible_tests=("assert f(1) == 0",)))


def test_an_answer_longer_than_the_budget_does_not_fit() -> None:
    ours, _ = environment()
    task = Task("t", TaskKind.INFILL, "x = ", reference="1234 + 5")
    needed = int(sum(ours.sft_datum(task).mask))
    assert replace(ours, budget=replace(ours.budget, max_tokens=needed)).fits(task)
    assert not replace(ours, budget=replace(ours.budget, max_tokens=needed - 1)).fits(task)


def test_how_much_is_asked_for() -> None:
    line = Task("t", TaskKind.INFILL, "x = ", reference="1\n")
    assert mode_of(line) is Mode.SINGLE_LINE
    assert mode_of(replace(line, reference="1\ny = 2")) is Mode.BLOCK
    assert mode_of(replace(line, kind=TaskKind.FUNCTION)) is Mode.BLOCK
    assert mode_of(replace(line, reference=None, visible_tests=("assert x",))) is Mode.BLOCK
    ours, _ = environment(Budget(max_tokens=32))
    parameters = ours.parameters(Mode.SINGLE_LINE, temperature=0.8, seed=7)
    assert (parameters.max_tokens, parameters.temperature, parameters.seed, parameters.one_line) == (32, 0.8, 7, True)
    assert not ours.parameters(Mode.BLOCK).one_line


# -- real data and a real tokenizer -----------------------------------------------------------------------------------------


def public_tasks(shared_data: Path) -> list[Task]:
    folder = shared_data / "tasks"
    lines = load_humaneval_infilling(folder / "humaneval-infilling" / "data" / "HumanEval-SingleLineInfilling.jsonl.gz")
    functions = load_mbpp(folder / "mbpp" / "mbpp.jsonl")
    return [*lines[::10], *functions[::10], *load_quixbugs(folder / "quixbugs" / "quixbugs.jsonl")]


def test_public_tasks_whose_right_answer_the_server_would_not_show(shared_data: Path) -> None:
    """Known: a lone bracket, which editors close by themselves; a second function behind the first; several paragraphs."""
    ours, _ = environment(Budget(max_prefix_chars=6000))
    tasks = public_tasks(shared_data)
    asked, unreadable = (
        Counter(task.source.split()[0] for task in some)
        for some in (tasks, [task for task in tasks if not ours.readable(task)])
    )
    assert asked == {"HumanEval-infilling": 104, "MBPP": 98, "QuixBugs": 31}
    assert unreadable == {"HumanEval-infilling": 1, "MBPP": 8, "QuixBugs": 21}


@pytest.mark.model
def test_the_embedded_model_s_tokenizer_writes_references_naturally(embedded_model: Path) -> None:
    """Its own line breaks: `\\n` with the blanks that follow, but the last, is one token."""
    transformers = pytest.importorskip("transformers", reason="the extra `train` is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        embedded_model.parent, gguf_file=embedded_model.name, local_files_only=True
    )
    ours = Environment(
        lambda text: tokenizer(text)["input_ids"],
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        (tokenizer.eos_token_id,),
    )
    assert [task.id for task in TASKS if not ours.readable(task)] == []
    task = Task("t", TaskKind.INFILL, "def f(x):\n    y = ", suffix="\n    return y\n", reference="x + 1")
    assert [tokenizer.decode([one]) for one in ours.sft_datum(task).target_tokens[-5:]] == [" x", " +", " ", "1", "\n   "]
