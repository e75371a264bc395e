"""A vLLM server as a training loop needs it: samples in token ids, log-probs of given tokens, adapters by name. It blocks.

`OpenAiBackend` is for editors: it streams one text at a time. This one draws many samples at once; its methods may be called
from several threads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from coderl_generator.adapters import Adapter
from coderl_generator.api_key import authorization
from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, GeneratorError, ModelNotServed
from coderl_generator.openai_wire import adapter_refusal_of, already_done, message_of, refusal_of
from coderl_generator.vllm_wire import (
    Drawing,
    Drawn,
    adapters_of,
    base_models_of,
    drawing_body,
    drawn_of,
    scores_of,
    scoring_body,
)

_CONNECT_TIMEOUT_S = 10.0
_MOST_ANSWER_BYTES = 1 << 28


class VllmClient:
    """Asks one server.

    What cannot be reached or fails with HTTP 5xx or 429 is tried again, `tries` times in all, after waits of 1, 4, 16 … times
    `pause_s`; a refusal and a timeout are not. Raises `BackendRefused`, `BackendUnavailable`, `GenerationTimedOut` (the message
    says what was waited for) and `ModelNotServed`. The API key is read from an environment variable and written nowhere.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 300.0,
        api_key_env: str = "",
        tries: int = 3,
        pause_s: float = 1.0,
        connections: int = 32,
    ) -> None:
        """`address`: `http://host:port`, with or without `/v1`. `timeout_s`: of one answer, all of it."""
        if not address.startswith(("http://", "https://")):
            raise GeneratorError(f"the server's address must begin with http:// or https://, not {address[:60]!r}")
        self.address = address.rstrip("/").removesuffix("/v1")
        self._timeout_s, self._tries, self._pause_s = timeout_s, tries, pause_s
        headers = authorization(api_key_env or None)
        self._client = httpx.Client(
            headers=headers,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def base_models(self) -> list[str]:
        """The names of the models that are no adapters."""
        return base_models_of(self._models())

    def adapters(self) -> list[str]:
        """The labels of the adapters that are served, whoever loaded them."""
        return adapters_of(self._models())

    def draw(self, model: str, prompt: Sequence[int], samples: int, drawing: Drawing) -> list[Drawn]:
        """`samples` continuations of a prompt of token ids by the model or adapter of that name."""
        what = f"{samples} samples of {model}"
        return drawn_of(self._answer("POST", "/v1/completions", drawing_body(model, prompt, samples, drawing), what), samples)

    def score(self, model: str, tokens: Sequence[int]) -> list[float]:
        """Log-probs of the tokens but the first by the model or adapter of that name, in nats."""
        what = f"the log-probs of {len(tokens)} tokens by {model}"
        return scores_of(self._answer("POST", "/v1/completions", scoring_body(model, tokens), what), tokens)

    def load(self, adapter: Adapter) -> None:
        """Serve an adapter under its label; nothing to do where one of that label is served."""
        body = {"lora_name": adapter.label, "lora_path": adapter.path}
        self._answer("POST", "/v1/load_lora_adapter", body, f"the loading of {adapter.label}", _not_loaded)

    def unload(self, label: str, *, within_s: float | None = None) -> None:
        """Serve the adapter of that label no more. `within_s`: one try of so many seconds; None = as everything else."""
        body, what = {"lora_name": label}, f"the unloading of {label}"
        self._answer("POST", "/v1/unload_lora_adapter", body, what, adapter_refusal_of, within_s=within_s)

    def close(self) -> None:
        """Close the connections. Adapters stay on the server."""
        self._client.close()

    def _models(self) -> Any:
        return self._answer("GET", "/v1/models", None, "its list of models", _refused)

    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        what: str,
        error_of: Callable[[int, Any], GeneratorError | None] | None = None,
        *,
        within_s: float | None = None,
    ) -> Any:
        """What the server says; `error_of` makes an error of a status and an answer, None = it is none."""
        timeout_s, tries = (self._timeout_s, self._tries) if within_s is None else (within_s, 1)
        for attempt in range(1, tries + 1):
            try:
                status, answer = self._once(method, path, body, what, timeout_s)
                if status == 200:
                    return answer
                error = (error_of or _refused)(status, answer)
                if error is None:
                    return answer
                raise error
            except BackendUnavailable:
                if attempt == tries:
                    raise
                time.sleep(self._pause_s * 4 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, what: str, timeout_s: float) -> tuple[int, Any]:
        last_s = time.monotonic() + timeout_s
        late = GenerationTimedOut(f"waited {timeout_s:g} s for {what}, and the model server at {self.address} gave no answer")
        told = b""
        try:
            with self._client.stream(method, self.address + path, json=body, timeout=_timeout(timeout_s)) as response:
                for part in response.iter_bytes():
                    told += part
                    if time.monotonic() > last_s:
                        raise late
                    if len(told) > _MOST_ANSWER_BYTES:
                        raise BackendUnavailable(f"the model server sent more than {_MOST_ANSWER_BYTES >> 20} MiB for {what}")
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout) as error:
            raise late from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise BackendUnavailable(f"the model server at {self.address} cannot be reached: is it running?") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise BackendUnavailable(f"the connection to the model server broke ({type(error).__name__})") from error
        try:
            return response.status_code, json.loads(told) if told else {}
        except ValueError:
            return response.status_code, {}  # such as "Success: …", in words


def _timeout(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s))


def _refused(status: int, answer: Any) -> GeneratorError:
    """404 with words of a model is a name that the server does not know: vLLM and OpenAI have the words in common."""
    if status == 404 and "does not exist" in message_of(answer):
        return ModelNotServed(f"the model server does not know the name it was asked for: {message_of(answer)}")
    return refusal_of(status, answer, GenerationRequest(""))


def _not_loaded(status: int, answer: Any) -> GeneratorError | None:
    return None if already_done(answer) else adapter_refusal_of(status, answer)
