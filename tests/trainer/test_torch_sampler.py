from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from coderl_trainer.local_engine import LocalEngine, LocalOptions
from coderl_trainer.types import SamplingParameters, StopReason

from .tiny_llama import make_tiny_llama, need_torch, of_sample

torch = need_torch()
PROMPTS = ((5, 6, 7, 8, 9), (10, 11), (12, 13, 14, 15, 16, 17, 18, 19, 20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=[True, False], ids=["shared prompts", "copied prompts"])
def engine(folder: Path, request: pytest.FixtureRequest) -> LocalEngine:
    return LocalEngine(LocalOptions(model=folder, lora_rank=4, threads=1, share_prompts=request.param))


def test_greedy_is_what_transformers_generates(folder: Path, engine: LocalEngine) -> None:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    groups = engine.sample(PROMPTS, 2, SamplingParameters(max_tokens=24, temperature=0))
    for prompt, group in zip(PROMPTS, groups, strict=True):
        inputs = torch.tensor([prompt])
        told = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=24, do_sample=False)
        expected = tuple(told[0, len(prompt) :].tolist())
        assert [sample.tokens for sample in group] == [expected, expected]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_model(engine: LocalEngine, temperature: float) -> None:
    groups = engine.sample(PROMPTS, 3, SamplingParameters(max_tokens=20, temperature=temperature, seed=3))
    model = engine._sampled
    lengths = set()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for sample in group:
            lengths.add(len(sample.tokens))
            everything = torch.tensor([[*prompt, *sample.tokens]])
            logits = model(everything).logits[0, len(prompt) - 1 : -1] / temperature
            chances = torch.log_softmax(logits, -1).gather(-1, torch.tensor(sample.tokens)[:, None])[:, 0]
            assert sample.logprobs == pytest.approx(chances.tolist(), abs=5e-5)
    assert lengths


def test_training_sees_the_same_logprobs(engine: LocalEngine) -> None:
    groups = engine.sample(PROMPTS, 3, SamplingParameters(max_tokens=16, seed=1))
    pairs = [(prompt, sample) for prompt, group in zip(PROMPTS, groups, strict=True) for sample in group]
    told = engine.logprobs([of_sample(prompt, sample, 1.0) for prompt, sample in pairs])
    for (_, sample), values in zip(pairs, told, strict=True):
        assert values == pytest.approx(sample.logprobs, abs=1e-5)


def test_a_seed_draws_the_same_and_no_seed_goes_on(engine: LocalEngine) -> None:
    seeded = SamplingParameters(max_tokens=12, seed=7)
    first = engine.sample(PROMPTS, 2, seeded)
    assert engine.sample(PROMPTS, 2, seeded) == first
    assert engine.sample(PROMPTS, 2, SamplingParameters(max_tokens=12, seed=8)) != first
    free = SamplingParameters(max_tokens=12)
    assert engine.sample(PROMPTS, 2, free) != engine.sample(PROMPTS, 2, free)


def test_both_ways_of_keeping_prompts_draw_the_same(folder: Path) -> None:
    drawn = []
    for share in (True, False):
        engine = LocalEngine(LocalOptions(model=folder, lora_rank=0, threads=1, share_prompts=share))
        drawn.append(engine.sample(PROMPTS, 4, SamplingParameters(max_tokens=16, seed=11)))
    for one, two in zip(*drawn, strict=True):
        assert [sample.tokens for sample in one] == [sample.tokens for sample in two]


def test_rows_that_have_ended_leave_and_the_others_do_not_notice(engine: LocalEngine) -> None:
    """Half of the vocabulary ends a sample, so rows leave at every step."""
    ends = engine._sampler._ends
    short = LocalEngine(engine.options)
    short._sampler._ends = frozenset(range(0, 320, 2))
    long = engine.sample(PROMPTS, 8, SamplingParameters(max_tokens=10, temperature=0))
    assert ends < short._sampler._ends
    cut = short.sample(PROMPTS, 8, SamplingParameters(max_tokens=10, temperature=0))
    for one, two in zip(long, cut, strict=True):
        for whole, part in zip(one, two, strict=True):
            assert whole.tokens[: len(part.tokens)] == part.tokens
    drawn = [sample for group in short.sample(PROMPTS, 8, SamplingParameters(max_tokens=10, seed=2)) for sample in group]
    assert len({len(sample.tokens) for sample in drawn}) > 2
    for sample in drawn:
        ended = [token % 2 == 0 for token in sample.tokens]
        assert not any(ended[:-1])
        assert ended[-1] is (sample.stop_reason is StopReason.STOP)
        assert sample.stop_reason is StopReason.STOP or len(sample.tokens) == 10
    pairs = [
        (prompt, sample)
        for prompt, group in zip(PROMPTS, short.sample(PROMPTS, 8, SamplingParameters(max_tokens=10, seed=2)), strict=True)
        for sample in group
    ]
    for (_, sample), values in zip(pairs, short.logprobs([of_sample(*pair, 1.0) for pair in pairs]), strict=True):
        assert values == pytest.approx(sample.logprobs, abs=1e-5)


def test_top_p_draws_from_the_nucleus_only(engine: LocalEngine) -> None:
    prompt = PROMPTS[0]
    with torch.inference_mode():
        chances = torch.softmax(engine._sampled(torch.tensor([prompt])).logits[0, -1], -1)
    ordered, order = chances.sort(descending=True)
    size = int((ordered.cumsum(-1) - ordered < 0.5).sum())
    nucleus = {int(token): float(chance) for token, chance in zip(order[:size], ordered[:size], strict=True)}
    drawn = engine.sample([prompt], 200, SamplingParameters(max_tokens=1, top_p=0.5, seed=5))[0]
    assert 1 < size < 320
    assert {sample.tokens[0] for sample in drawn} <= nucleus.keys()
    mass = sum(nucleus.values())
    for sample in drawn:
        assert sample.logprobs[0] == pytest.approx(math.log(nucleus[sample.tokens[0]] / mass), abs=1e-4)


def test_draws_follow_the_probabilities(engine: LocalEngine) -> None:
    prompt = PROMPTS[1]
    with torch.inference_mode():
        chances = torch.softmax(engine._sampled(torch.tensor([prompt])).logits[0, -1], -1)
    drawn = engine.sample([prompt], 4000, SamplingParameters(max_tokens=1, seed=9))[0]
    counts = torch.zeros(len(chances))
    for sample in drawn:
        counts[sample.tokens[0]] += 1
    # A chance p is met within five standard deviations of a share of 4,000 draws.
    allowed = 5 * (chances * (1 - chances) / 4000).sqrt() + 1e-3
    assert bool(((counts / 4000 - chances).abs() <= allowed).all())


def test_stop_texts_and_lines_end_a_sample(engine: LocalEngine) -> None:
    def text(tokens: tuple[int, ...]) -> str:
        decoded: Any = engine.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(decoded)

    free = engine.sample([PROMPTS[0]], 64, SamplingParameters(max_tokens=32, seed=4))[0]
    whole = next(text(sample.tokens) for sample in free if len(sample.tokens) > 8)
    stop = whole[3]
    stopped = engine.sample([PROMPTS[0]], 64, SamplingParameters(max_tokens=32, seed=4, stop=(stop,)))[0]
    assert any(stop in text(sample.tokens) for sample in stopped)
    for sample in stopped:
        assert stop not in text(sample.tokens[:-1])
        assert sample.stop_reason is StopReason.STOP or stop not in text(sample.tokens)
    lines = engine.sample([PROMPTS[0]], 256, SamplingParameters(max_tokens=32, seed=4, one_line=True))[0]
    ended = [sample for sample in lines if "\n" in text(sample.tokens).lstrip()]
    assert ended
    for sample in ended:
        assert sample.stop_reason is StopReason.STOP
        assert "\n" not in text(sample.tokens[:-1]).lstrip()
