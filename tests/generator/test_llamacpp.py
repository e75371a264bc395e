"""What is peculiar to the embedded backend: no open port, loading, the queue, the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from coderl_generator.backend import FinishReason, GenerationRequest
from coderl_generator.errors import BackendRefused, BackendUnavailable, ModelDamaged, ModelMissing, PromptTooLong
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.llamacpp_wire import body_of, raise_for, tokens_of

LISTENING = "0A"


def listening_tcp_sockets(pid: str = "self") -> list[str]:
    """Inodes of the TCP sockets this process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue  # closed between listing and reading
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        if (path := Path(f"/proc/{pid}/net/{table}")).exists()
        for line in path.read_text().splitlines()[1:]
    ]
    return [row[9] for row in rows if row[3] == LISTENING and row[9] in inodes]


def socket_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


@pytest.mark.model
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_nothing_listens_and_no_socket_file_stays(
    embedded_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backend = LlamaCppBackend(embedded_model)
    before = listening_tcp_sockets()
    await backend.warm_up()
    assert listening_tcp_sockets() == before
    assert socket_files(tmp_path) == []
    assert [token async for token in backend.stream(GenerationRequest("x = ", max_tokens=2))]
    await backend.aclose()
    assert capfd.readouterr() == ("", "")


async def test_a_model_that_is_missing_or_damaged_is_told_at_the_first_use(tmp_path: Path) -> None:
    backend = LlamaCppBackend(tmp_path / "absent.gguf")
    with pytest.raises(ModelMissing):
        await backend.warm_up()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelDamaged):
        await LlamaCppBackend(broken).warm_up()
    await backend.aclose()


async def test_a_gguf_that_cannot_be_loaded_is_unavailable_and_may_be_tried_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    backend = LlamaCppBackend(broken)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=r"broken\.gguf"):
            await backend.warm_up()
    await backend.aclose()


@pytest.mark.model
async def test_a_queued_request_that_was_cancelled_never_starts(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    async with aclosing(backend.stream(GenerationRequest("import os\n", max_tokens=20, timeout_s=60.0))) as first:
        await anext(first)
        queued = asyncio.ensure_future(anext(backend.stream(GenerationRequest("import sys\n", max_tokens=400, timeout_s=60.0))))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        async for _ in first:
            pass
    done = backend.decoded_tokens
    async with aclosing(backend.stream(GenerationRequest("import sys\n", max_tokens=1, timeout_s=60.0))) as last:
        async for _ in last:
            pass
    assert done == 20
    assert backend.decoded_tokens == 21
    await backend.aclose()


@pytest.mark.model
async def test_a_long_prompt_can_be_cancelled_before_its_first_token(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    await backend.warm_up()
    long = "".join(f"value_{n} = {n * n}\n" for n in range(120))
    task = asyncio.ensure_future(anext(backend.stream(GenerationRequest(long, max_tokens=8, timeout_s=60.0))))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    tokens = [token async for token in backend.stream(GenerationRequest("x", max_tokens=1, timeout_s=60.0))]
    assert tokens[-1].finish is FinishReason.LENGTH
    assert backend.decoded_tokens == 1
    await backend.aclose()


@pytest.mark.model
def test_a_process_that_forgets_to_close_ends_cleanly(embedded_model: Path) -> None:
    code = """
import asyncio, sys
from coderl_generator.backend import GenerationRequest
from coderl_generator.llamacpp import LlamaCppBackend
async def main():
    backend = LlamaCppBackend(sys.argv[1])
    stream = backend.stream(GenerationRequest("import os", max_tokens=500))
    print((await anext(stream)).id >= 0)
asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(embedded_model)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "True\n", "")


def test_the_request_switches_the_librarys_own_samplers_off() -> None:
    greedy = body_of(GenerationRequest("x"))
    assert (greedy["temperature"], greedy["top_k"], greedy["min_p"], "seed" in greedy) == (0.0, 1, 0.0, False)
    sampled = body_of(GenerationRequest("x", temperature=0.8, top_p=0.9, seed=3))
    assert (sampled["temperature"], sampled["top_k"], sampled["top_p"], sampled["seed"]) == (0.8, 0, 0.9, 3)


def test_a_forced_beginning_is_escaped_for_the_grammar() -> None:
    assert body_of(GenerationRequest("x", begins_with='\n\t"\\r'))["grammar"] == 'root ::= "\\x0A\\x09\\"\\\\r" [^\\x00]*'
    assert "grammar" not in body_of(GenerationRequest("x"))


def test_a_chunk_of_two_tokens_is_split() -> None:
    content = [{"id": 1, "token": "a", "logprob": -1.0}, {"id": 2, "token": "b", "logprob": 1e-9}]
    assert [(token.text, token.id, token.logprob) for token in tokens_of({"text": "ab", "logprobs": {"content": content}})] == [
        ("a", 1, -1.0),
        ("b", 2, 0.0),
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}, PromptTooLong),
        ({"code": 400, "message": "bad grammar"}, BackendRefused),
        ({"code": 500, "message": "out of memory"}, BackendUnavailable),
        ({}, BackendUnavailable),
    ],
)
def test_the_librarys_errors_become_ours(error: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        raise_for(error)


@pytest.mark.model
async def test_behind_the_line_that_was_wanted_nothing_is_decoded(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    request = GenerationRequest("def add(a, b):\n   ", max_tokens=40, one_line=True, timeout_s=60.0)
    try:
        async with aclosing(backend.stream(request)) as tokens:
            *decoded, end = [token async for token in tokens]
    finally:
        await backend.aclose()
    assert "".join(token.text for token in decoded).strip() != ""
    assert "\n" in decoded[-1].text
    assert end.finish is FinishReason.STOP
    assert backend.counters.decoded_tokens == len(decoded)


async def reused_tokens(backend: LlamaCppBackend, document: str, prompt: str) -> int:
    """Ask for one token; how many of the prompt's came from the cache."""
    before = backend.counters.reused_tokens
    async with aclosing(backend.stream(GenerationRequest(prompt, max_tokens=1, document=document, timeout_s=60.0))) as tokens:
        async for _ in tokens:
            pass
    return backend.counters.reused_tokens - before


@pytest.mark.model
async def test_documents_do_not_push_each_others_prompts_out(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    prompts = {"a.py": "value = 1\n" * 12, "b.py": "def f(a):\n    return a\n" * 6, "c.py": "import os\n" * 12}
    for document, prompt in prompts.items():
        assert await reused_tokens(backend, document, prompt) < 3
    for document, prompt in prompts.items():
        assert await reused_tokens(backend, document, prompt + "\n") > 30
    await reused_tokens(backend, "d.py", "x = 3\n")  # takes the place of the one used least recently
    assert await reused_tokens(backend, "a.py", prompts["a.py"]) < 3
    await backend.aclose()


@pytest.mark.model
@pytest.mark.parametrize("repeatable", [False, True])
async def test_a_window_that_has_moved_on_is_shifted_but_not_where_sessions_are_repeated(
    embedded_model: Path, repeatable: bool
) -> None:
    backend = LlamaCppBackend(embedded_model, repeatable=repeatable)
    text = "".join(f"def name_{number}():\n    return {number}\n" for number in range(12))
    await reused_tokens(backend, "a.py", text)
    moved = text[text.index("\ndef name_4") :]
    assert (await reused_tokens(backend, "a.py", moved) > 40) is not repeatable
    await backend.aclose()


@pytest.mark.model
async def test_what_was_read_ahead_need_not_be_read_again(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model)
    prompt = "value = 1\n" * 12
    await backend.prefill(GenerationRequest(prompt, document="a.py"))
    assert await reused_tokens(backend, "a.py", prompt + "value") > 40
    await backend.aclose()


@pytest.mark.model
async def test_a_model_is_freed_right_after_it_was_loaded(embedded_model: Path) -> None:
    """Its loop may not have started by then: freed in that moment, the native server would be waited for without an end."""
    for _ in range(6):
        backend = LlamaCppBackend(embedded_model)
        await backend.warm_up()
        await asyncio.wait_for(backend.aclose(), 60.0)
