"""What the embedded model wrote, read back from the log, has the same log-probs in the training engine as it had in llama.cpp:
the prompt was made again as it was."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.prompt import Place
from coderl_trainer.feedback import datum_of
from coderl_trainer.logged import agreeing, rows_from_log
from coderl_trainer.logged_tokens import LoggedTokens, NotUsed, TokenizerCodec

from .logged_requests import Requests

pytestmark = [pytest.mark.model, pytest.mark.slow]
HEAD = "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    "
TAIL = "\n\n\ndef read(path):\n    with open(path) as file:\n        lines = file.readlines()\n    return lines\n"
PREFIXES = (HEAD, HEAD + "ret", HEAD[:20], HEAD[:38], HEAD + "return total / len(values)\n\n\n")
BUDGET = Budget(max_tokens=16, timeout_s=120.0)


async def test_the_engine_gives_the_log_probs_of_the_log(embedded_model: Path) -> None:
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="coderl[train] is not installed", exc_type=ImportError)
    from coderl_trainer.local_engine import LocalEngine, LocalOptions

    backend = LlamaCppBackend(embedded_model)
    written: list[tuple[str, Completion]] = []
    try:
        for prefix in PREFIXES:
            found = await complete(backend, Place(prefix, TAIL, "python"), BUDGET, time.monotonic)
            if found.text.strip() and not found.rewritten:
                written.append((prefix, found))
                if (rest := found.after(2)).text.strip():  # typed into
                    written.append((prefix + found.text[:2], rest))
    finally:
        await backend.aclose()
    assert len(written) >= 6
    made = Requests()
    requests = [
        made.one(
            prefix=prefix, suffix=TAIL, language="python", text=found.text, written="",
            suggestion={"token_ids": found.token_ids, "logprobs": found.logprobs},
        )
        for prefix, found in written
    ]  # fmt: skip
    engine = LocalEngine(LocalOptions(embedded_model, lora_rank=0, threads=1))
    logged = rows_from_log(requests, TokenizerCodec(engine.tokenizer))
    assert set(logged.left_out) <= {NotUsed.GIVEN}
    ours = engine.logprobs([datum_of(row) for row in logged.rows])
    assert agreeing(logged, ours).rows == logged.rows
    moved = replace(logged, rows=tuple(replace(row, tokens=_after(row.tokens)) for row in logged.rows))
    wrong = engine.logprobs([datum_of(row) for row in moved.rows])
    assert len(agreeing(moved, wrong).rows) < len(logged.rows) / 2


def _after(tokens: LoggedTokens) -> LoggedTokens:
    """The same behind a prompt that lacks its second half."""
    return replace(tokens, prompt=tokens.prompt[: max(1, len(tokens.prompt) // 2)])
