from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from coderl_store.repository import LoggedRequest
from coderl_trainer.errors import TaskError
from coderl_trainer.logged_tokens import LoggedTokens, NoTokens, NotUsed, PromptShape, logged_tokens

from .logged_requests import Requests


def tokens_of(request: LoggedRequest, made: Requests, shape: PromptShape | None = None) -> LoggedTokens:
    assert request.suggestion is not None
    return logged_tokens(request.context, request.suggestion, made.codec, shape or PromptShape())


def test_the_prompt_ends_where_the_tokens_begin() -> None:
    made = Requests()
    found = tokens_of(made.one(), made)
    assert made.codec.decode(found.prompt) == "def f(total):\n   "
    assert made.codec.decode(found.tokens) == " return total"
    assert found.logprobs == (-0.5, -1.5)
    assert found.given == 0


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [
        ({"written": "return total"}, "def f(total):\n    "),
        ({"prefix": "def f(total):\n    ret", "text": "urn total"}, "def f(total):\n   "),  # typed into, or a healed word
        ({"written": "\n    return total\n", "prefix": "x\n    "}, "x"),
        ({"written": "    return total", "prefix": "x\r\n    "}, "x\n"),
        ({"written": " return total; y", "text": "return total"}, "def f(total):\n   "),
        ({"prefix": "a a ", "text": "a", "written": "a"}, "a a "),
    ],
)
def test_whatever_was_held_back_prompt_and_tokens_are_the_text(changes: Mapping[str, Any], prompt: str) -> None:
    made = Requests()
    request = made.one(**changes)
    assert made.codec.decode(tokens_of(request, made).prompt) == prompt


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": None}, NotUsed.NO_TEXT),
        ({"text": "  "}, NotUsed.NO_TEXT),
        ({"prefix": None}, NotUsed.NO_TEXT),
        ({"suggestion": {"token_ids": (), "logprobs": ()}}, NotUsed.NO_TOKENS),
        ({"suggestion": {"logprobs": (-1.0,)}}, NotUsed.NO_TOKENS),
        ({"suggestion": {"logprobs": (-1.0, 0.5)}}, NotUsed.NO_TOKENS),
        ({"suggestion": {"logprobs": (-1.0, float("nan"))}}, NotUsed.NO_TOKENS),
        ({"text": "return  total"}, NotUsed.TEXT_DIFFERS),
        ({"written": "\n        return total"}, NotUsed.BOUNDARY),
        ({"prefix": "", "written": "return total"}, NotUsed.BOUNDARY),
        ({"prefix": " ", "written": " return total"}, NotUsed.BOUNDARY),
        ({"prefix": "x\n    re", "text": "turn", "written": " return"}, NotUsed.GIVEN),
    ],
)
def test_what_cannot_be_made_again_has_a_reason(changes: Mapping[str, Any], reason: NotUsed) -> None:
    made = Requests()
    with pytest.raises(NoTokens) as found:
        tokens_of(made.one(**changes), made)
    assert found.value.reason is reason


def test_the_window_is_the_one_the_generator_saw() -> None:
    made = Requests()
    prefix = "".join(f"x{number} = {number}\n" for number in range(400)) + "y = "
    found = tokens_of(
        made.one(prefix=prefix, text="x1", written=" x1"), made, PromptShape(max_prefix_chars=600, anchor_chars=200)
    )
    prompt = made.codec.decode(found.prompt)
    assert (prefix[:-1]).endswith(prompt)
    assert 400 <= len(prompt) + 1 <= 600
    assert prompt.startswith("\n")


def test_a_template_with_the_text_after_the_place_is_rendered_whole() -> None:
    made = Requests()
    found = tokens_of(made.one(prefix="a = ", suffix="\nb", text="1", written="1"), made, PromptShape("qwen2.5-coder"))
    prompt = made.codec.decode(found.prompt)
    assert prompt.index("a = ") < prompt.index("\nb")
    assert len(prompt) > len("a = \nb")


def test_a_server_that_writes_the_prompt_itself_is_refused() -> None:
    with pytest.raises(TaskError, match="suffix"):
        PromptShape("suffix")


def test_a_name_that_was_given_is_not_the_models_own() -> None:
    made = Requests()
    place = {"prefix": "def f(items):\n    ", "suffix": "\n    return total\n", "language": "python"}
    request = made.one(text="total = len(items)", written=" total = len(items)", **place)  # type: ignore[arg-type]
    assert tokens_of(request, made).given == 3  # the name, a blank, the sign
    assert tokens_of(request, made, PromptShape(need_name=False)).given == 0
    other = made.one(text="return len(items)", written=" return len(items)", **place)  # type: ignore[arg-type]
    assert tokens_of(other, made).given == 0


def test_a_begun_word_was_given() -> None:
    made = Requests()
    assert tokens_of(made.one(prefix="def f(total):\n    ret", text="urn total"), made).given == 1
    assert tokens_of(made.one(), made).given == 0  # whitespace is written again of its own accord


def test_whitespace_that_the_model_wrote_is_cut_by_itself() -> None:
    made = Requests()
    found = tokens_of(made.one(prefix="x = 1\n\n", text="y", written="y"), made)
    assert [made.codec.decode([one]) for one in found.prompt[-2:]] == ["\n", "\n"]
    assert made.codec.words.count("\n\n") == 0


class Sentences:
    """A tokenizer of the kind that drops the blank of a text's first token."""

    def __init__(self, made: Requests) -> None:
        self.codec = made.codec

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        return self.codec.encode(text)

    def decode(self, ids: tuple[int, ...]) -> str:
        return self.codec.decode(ids).removeprefix(" ")


def test_a_dropped_first_blank_does_not_move_the_prompt() -> None:
    made = Requests()
    request = made.one()
    assert request.suggestion is not None
    found = logged_tokens(request.context, request.suggestion, Sentences(made), PromptShape())  # type: ignore[arg-type]
    assert made.codec.decode(found.prompt) == "def f(total):\n   "
