"""When leaking control tokens say that the template is the wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.complete import Budget, complete
from coderl_generator.fim_templates import FIM_TEMPLATES, TEMPLATES
from coderl_generator.fit import MOST_LEAKS, RECENT, TemplateFit
from coderl_generator.prompt import Place
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_store.clock import SystemClock

leaks = st.sampled_from(["", "", "<|fim_middle|>", "<PRE>", "<|endoftext|>"])


def seen(template: str, tokens: list[str]) -> TemplateFit:
    fit = TemplateFit(template, "a-model")
    for token in tokens:
        fit = fit.after(token)
    return fit


@given(st.lists(leaks, max_size=60))
def test_only_the_last_generations_count(tokens: list[str]) -> None:
    fit = seen("codellama", tokens)
    assert bool(fit.doubt) == (sum(token not in ("",) for token in tokens[-RECENT:]) >= MOST_LEAKS)
    assert len(fit.leaks) <= RECENT


@pytest.mark.parametrize("template", sorted(FIM_TEMPLATES))
def test_the_marks_by_which_a_family_ends_are_no_leaks_but_its_fim_tokens_are(template: str) -> None:
    family = FIM_TEMPLATES[template]
    for special in set(family.specials) - set(family.fim_texts):
        assert not seen(template, [special] * RECENT).doubt
    assert seen(template, [family.fim_texts[0]] * MOST_LEAKS).doubt


def test_the_sentence_names_template_and_model_and_stays_the_same() -> None:
    first, later = seen("codellama", ["<|fim_suffix|>"] * 4), seen("codellama", ["<|fim_suffix|>"] * 15)
    assert first.doubt == later.doubt
    assert "`codellama`" in first.doubt
    assert "a-model" in first.doubt
    assert not any(seen(name, [""] * RECENT).doubt for name in TEMPLATES)


async def test_a_completion_says_which_token_ended_it() -> None:
    backend = ScriptedBackend(SystemClock(), Script(default=Rule(text="x = 1<|fim_middle|>y")))
    done = await complete(backend, Place("a\n"), Budget(template="codellama"), SystemClock().now_s)
    assert (done.text, done.leaked) == ("x = 1", "<|fim_middle|>")
    backend = ScriptedBackend(SystemClock(), Script(default=Rule(text="x = 1\n+++++ other.py\n")))
    done = await complete(backend, Place("a\n"), Budget(template="codestral"), SystemClock().now_s)
    assert done.text == "x = 1"
