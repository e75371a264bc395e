"""The embedded chat model: a GGUF file by llama.cpp in this process, with the chat template that the file holds.

Tools are called by the text protocol: llama.cpp's own tool calls come without log-probs, and a small model does not know them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, GeneratorError
from coderl_generator.llamacpp import load_server
from coderl_generator.llamacpp_wire import raise_for
from coderl_generator.models import generator_id_of

from .calls import ToolSpec
from .chat import Chunks, Message, Reply, Sampling

_LISTENS_EVERY_S = 0.2
_BATCH_TOKENS = 64
"""Nobody types meanwhile, so that a stop may take longer than in an editor (`coderl_generator.llamacpp`)."""


class EmbeddedChat:
    """Decodes in a thread, so that Ctrl-C is heard at once; the decoding then ends within one token or batch of the prompt."""

    native_tools = False

    def __init__(self, model: Path, *, context_tokens: int = 8192, threads: int = 2) -> None:
        """Loaded at the first reply. `context_tokens`: more than the model was trained for is of no use."""
        self.name = generator_id_of(model)
        self._model = model
        self._context_tokens = context_tokens
        self._threads = threads
        self._server: Any = None

    def reply(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        *,
        timeout_s: float,
        heard: Callable[[str], None] = lambda text: None,
    ) -> Reply:
        """See `ChatModel`. `tools` are not sent."""
        chunks, stop, failures = Chunks(heard), threading.Event(), list[Exception]()
        body = {
            "messages": list(messages),
            "stream": True,
            "logprobs": True,
            "top_logprobs": 1,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 1 if sampling.temperature <= 0 else 0,
            "min_p": 0.0,
            "cache_prompt": True,
            "return_progress": True,  # a chunk per batch of the prompt: the only chance to stop while it is read
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed

        def on_chunk(chunk: dict[str, Any]) -> bool:
            try:  # an exception must not travel through the C++ frames between the callback and the call
                if "error" in chunk:
                    raise_for(chunk["error"])
                chunks.add(chunk)
            except Exception as error:
                failures.append(error)
                stop.set()
            return stop.is_set()

        worker = threading.Thread(target=self._decode, args=(body, on_chunk, failures), name="embedded-chat", daemon=True)
        until_s = time.monotonic() + timeout_s
        worker.start()
        try:
            while worker.is_alive() and time.monotonic() < until_s:
                worker.join(_LISTENS_EVERY_S)
            late = worker.is_alive()
        finally:
            stop.set()
            worker.join()
        if failures:
            raise failures[0]
        if late and not chunks.finish:
            raise GenerationTimedOut(f"the embedded model did not end its reply in {timeout_s:.0f} s")
        return chunks.reply()

    def _decode(self, body: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool], failures: list[Exception]) -> None:
        try:
            if self._server is None:
                self._server = load_server(
                    self._model, self._context_tokens, self._threads, slots=1, batch_tokens=_BATCH_TOKENS
                )
            self._server.handle_chat_completions(body, on_chunk)
        except GeneratorError as error:
            failures.append(error)
        except Exception as error:  # whatever the native library throws
            failures.append(BackendUnavailable(f"llama.cpp failed: {error}"))

    def close(self) -> None:
        """Free the model."""
        self._server = None
