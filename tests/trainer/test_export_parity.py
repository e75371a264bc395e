"""The exported file says what the trained model says: log-probs of llama.cpp against those of transformers.

The base is read by transformers' own GGUF loader, which undoes the order of rows by itself, so nothing here leans on ours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coderl_generator.llamacpp import load_server
from coderl_generator.llamacpp_wire import tokens_of
from coderl_trainer.export import export_gguf
from coderl_trainer.tiny_llama import END_ID, write_tiny_llama

LACKING = [name for name in ("torch", "transformers", "peft", "gguf") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)} (coderl[train])")

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BESIDE, STEPS = 20, 4


def told(file: Path, prompts: Sequence[Sequence[int]]) -> list[list[tuple[int, dict[int, float]]]]:
    """Per prompt and greedy step of llama.cpp: the token, and the log-probs of the likeliest tokens."""
    server = load_server(file, 128 if "tiny" in file.name else 512, 2)
    answers = []
    for prompt in prompts:
        steps: list[tuple[int, dict[int, float]]] = []

        def take(chunk: dict[str, Any], steps: list[tuple[int, dict[int, float]]] = steps) -> bool:
            for token in tokens_of(chunk["choices"][0]) if chunk.get("choices") else ():
                steps.append((token.id, {one.id: one.logprob for one in token.alternatives}))
            return False

        body = {"prompt": list(prompt), "n_predict": STEPS, "n_probs": BESIDE, "temperature": 0.0, "top_k": 1, "stream": True}
        server.handle_completions({**body, "cache_prompt": False, "ignore_eos": True}, take)
        answers.append(steps)
    return answers


def differences(model: Any, prompts: Sequence[Sequence[int]], answers: list[list[tuple[int, dict[int, float]]]]) -> list[float]:
    """|log-prob of llama.cpp − log-prob of transformers|, over the likeliest tokens of every step."""
    import torch

    torch.set_num_threads(1)  # threads that wait for each other are slow beside other work
    found: list[float] = []
    with torch.no_grad():
        for prompt, steps in zip(prompts, answers, strict=True):
            assert len(steps) >= STEPS - 1
            ids = [*prompt, *(token for token, _ in steps)]
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
            for place, (_, beside) in enumerate(steps, len(prompt) - 1):
                found += [abs(logprobs[place, token].item() - known) for token, known in beside.items()]
    return found


def adapted(file: Path, folder: Path, scale: float, **settings: Any) -> Any:
    """The base as transformers reads it, with a random adapter that is saved in `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, GgufConfig

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    if hasattr(base.config, "quantization_config"):
        del base.config.quantization_config
    model = get_peft_model(base, LoraConfig(**{"target_modules": MODULES, "r": 16, "lora_alpha": 32, **settings}))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", seed=3)


PROMPTS = [[(7 * place * place + start) % END_ID for place in range(24)] for start in range(12)]


@pytest.mark.parametrize(("type_name", "most"), [("f32", 0.02), ("f16", 0.02), ("bf16", 0.1), ("q8_0", 0.4)])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "r": 8}], ids=["lora", "rslora"])
def test_a_merged_adapter_says_what_it_said(
    tiny: Path, tmp_path: Path, type_name: str, most: float, settings: dict[str, Any]
) -> None:
    """Even f32 differs by up to 0.01: llama.cpp keeps keys and values as f16."""
    model = adapted(tiny, tmp_path / "lora", 0.05, **settings)
    made = export_gguf(tmp_path / "lora", tiny, tmp_path / "tiny-made.gguf", type_name=type_name)
    assert max(differences(model, PROMPTS, told(Path(made.file), PROMPTS))) <= most
    untouched = differences(model, PROMPTS, told(tiny, PROMPTS))
    assert max(untouched) > 2 * most, "the adapter changes nothing, so this proves nothing"


@pytest.mark.parametrize("changed", ["q_proj", "k_proj"])
def test_the_order_of_rows_shows_where_it_is_wrong(tiny: Path, tmp_path: Path, changed: str) -> None:
    """Rows of queries or keys in Hugging Face's order give another model: the test above would see it."""
    from gguf import GGUFReader

    from coderl_trainer.llama_names import as_gguf

    model = adapted(tiny, tmp_path / "lora", 0.1, target_modules=[changed])
    made = Path(export_gguf(tmp_path / "lora", tiny, tmp_path / "tiny-made.gguf").file)
    right = differences(model, PROMPTS, told(made, PROMPTS))
    part = {"q_proj": "attn_q", "k_proj": "attn_k"}[changed]
    for tensor in GGUFReader(made, "r+").tensors:
        if part in tensor.name:
            heads = len(tensor.data) // 16
            tensor.data[:] = as_gguf(tensor.data.copy(), heads)
    assert max(right) <= 0.02
    assert max(differences(model, PROMPTS, told(made, PROMPTS))) > 0.2


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0.02), ("bfloat16", 0.2)])
def test_a_whole_model_says_what_it_said(tiny: Path, tmp_path: Path, dtype: str, most: float) -> None:
    """What was only rounded to bfloat16 is the base's own in the file, and not rounded there."""
    import torch

    model = adapted(tiny, tmp_path / "lora", 0.05).merge_and_unload().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "whole")
    made = export_gguf(tmp_path / "whole", tiny, tmp_path / "tiny-made.gguf")
    assert made.changed == 14
    assert max(differences(model.float(), PROMPTS, told(Path(made.file), PROMPTS))) <= most


CODE = """def total(prices, rate):
    result = 0
    for price in prices:
        result += price * (1 + rate)
    return result


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("empty")
        return self.items.pop()
"""


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_model_with_an_adapter_says_what_it_said(embedded_model: Path, tmp_path: Path) -> None:
    """Mean difference of log-probs in nats. llama.cpp computes with quantised activations where weights are quantised, so it
    differs from transformers on the bare base too; the file may be as far away, and twice as far with activations of q8_0."""
    from transformers import AutoTokenizer

    model = adapted(embedded_model, tmp_path / "lora", 0.02)
    tokenizer = AutoTokenizer.from_pretrained(embedded_model.parent, gguf_file=embedded_model.name)
    prompts = [tokenizer(CODE[:end])["input_ids"] for end in (90, 180, 270, 360)]

    def mean(file: Path) -> float:
        found = differences(model, prompts, told(file, prompts))
        return sum(found) / len(found)

    with model.disable_adapter():
        bare = mean(embedded_model)
    means = {"bare": bare, "untouched": mean(embedded_model)}
    for type_name in ("f16", "q8_0"):
        made = export_gguf(tmp_path / "lora", embedded_model, tmp_path / "made.gguf", type_name=type_name)
        means[type_name] = mean(Path(made.file))
    print(means)
    assert means["f16"] <= bare
    assert means["q8_0"] <= 2 * bare
    assert means["untouched"] > 2 * bare, "the adapter changes nothing, so this proves nothing"
