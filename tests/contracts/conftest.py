"""Real engines for the battery: each is started once for the whole run, and skipped with a reason where it is not installed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from coderl_generator.transformers_torch import TransformersBackend
from coderl_generator.vllm_engine import VllmBackend

_HF_MODEL = os.environ.get("CODERL_HF_MODEL")  # read before the fixture `own_home` hides it
_START_TIMEOUT_S = 900.0
RANK = 8
PROMPT = "def add(a, b):\n    return"
WORDS = {1: " red", 2: " blue", 3: " green"}
"""What each adapter says behind it."""
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The embedded model's form of a chat."""


def need(library: str) -> None:
    """Skip where a library is not installed."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: `make test-vllm` has it in a venv of its own")


@pytest.fixture(scope="session")
def hf_model() -> Path:
    """A copy of the embedded model in Hugging Face's form (`python -m coderl_generator.hf_copy`)."""
    if not _HF_MODEL:
        pytest.skip("CODERL_HF_MODEL names no Hugging Face copy of the embedded model: `make test-vllm` makes one")
    return Path(_HF_MODEL).absolute()


@pytest.fixture(scope="session")
def lora(hf_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Folders of LoRA adapters, by number: behind `PROMPT` each says a word of its own, again and again, and is sure. (With
    random weights two tokens may be as good as equal, and how a processor rounds decides between them.)"""
    need("peft")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def make(number: int) -> Path:
        folder = tmp_path_factory.getbasetemp() / f"lora-{number}"
        if not folder.exists():
            torch.manual_seed(number)
            tokenizer = AutoTokenizer.from_pretrained(hf_model)
            ids = tokenizer(PROMPT + WORDS[number] * 12, return_tensors="pt").input_ids
            labels = ids.clone()
            labels[:, : len(tokenizer(PROMPT).input_ids)] = -100
            config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"])
            model = get_peft_model(AutoModelForCausalLM.from_pretrained(hf_model, dtype=torch.float32), config)
            optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
            for _ in range(100):
                loss = model(input_ids=ids, labels=labels).loss
                if loss.item() < 0.01:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            else:
                pytest.fail(f"Adapter {number} did not learn its word: its loss is {loss.item():.3f}.")
            model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def transformers_model(hf_model: Path) -> Iterator[TransformersBackend]:
    for library in ("torch", "transformers", "peft"):
        need(library)
    backend = TransformersBackend(hf_model)
    yield backend
    asyncio.run(backend.aclose())


def new_vllm(hf_model: Path) -> VllmBackend:
    need("vllm")
    return VllmBackend(hf_model, engine={"enforce_eager": True})


@pytest.fixture(scope="session")
def vllm_model(hf_model: Path) -> Iterator[VllmBackend]:
    backend = new_vllm(hf_model)
    yield backend
    asyncio.run(backend.aclose())


def vllm_figure(name: str) -> int:
    """A figure of vLLM's engines in this process, as its own metrics tell it; 0 before the first."""
    from prometheus_client import REGISTRY

    return round(sum(one.value for metric in REGISTRY.collect() for one in metric.samples if one.name == f"vllm:{name}"))


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A real vLLM server on loopback."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def figure(self, name: str) -> int:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:{name}{{")))

    def models(self) -> set[str]:
        return {one["id"] for one in httpx.get(f"{self.url}/v1/models", timeout=60).json()["data"]}

    def kill(self) -> None:
        """At once, with its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def serving(hf_model: Path, folder: Path) -> Iterator[VllmServer]:
    """Start a server and wait until it answers."""
    need("vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"--model {hf_model} --served-model-name served --host 127.0.0.1 --port {port}"
    options = "--dtype bfloat16 --max-model-len 2048 --enable-lora --max-lora-rank 16 --max-loras 2 --enforce-eager"
    template = folder / "chat.jinja"
    template.write_text(CHAT, encoding="utf-8")  # the copy of a GGUF may lack its own
    options += f" --chat-template {template}"
    environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *address.split(), *options.split()],
            env={"VLLM_CPU_KVCACHE_SPACE": "1", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = VllmServer(process, port)
    try:
        last = time.monotonic() + _START_TIMEOUT_S
        while not answers(server):
            if process.poll() is not None or time.monotonic() > last:
                pytest.fail(f"vLLM did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(1.0)
        yield server
    finally:
        server.kill()


def answers(server: VllmServer) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def vllm_server(hf_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with serving(hf_model, tmp_path_factory.mktemp("vllm")) as server:
        yield server
