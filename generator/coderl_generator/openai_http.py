"""Any server that speaks OpenAI's `/v1/completions`: vLLM, llama-server, Ollama and others.

The raw-text endpoint is used, never the chat one: only it continues a text, and only there do log-probs belong to the text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from coderl_generator.adapters import Adapter, AdapterSwitch, adapted_id
from coderl_generator.api_key import authorization
from coderl_generator.backend import FinishReason, GenerationRequest, Token, end_mark
from coderl_generator.errors import BackendRefused, BackendUnavailable, GenerationTimedOut, GeneratorError
from coderl_generator.openai_wire import NoLogprobs, adapter_refusal_of, already_done, event_data, refusal_of, tokens_of
from coderl_generator.streams import Streams

_MAX_LINE_BYTES = 1 << 20
_MAX_ERROR_BYTES = 1 << 16
_ADAPTER_TIMEOUT_S = 120.0
"""For loading or unloading one; a server reads some hundred megabytes at most."""


class OpenAiBackend:
    """Streams completions from a server over HTTP.

    A connection that cannot be made is tried once more before the first token; nothing else is tried again. An answer 4xx is
    `BackendRefused` (429 is `BackendUnavailable`), 5xx and a connection that breaks are `BackendUnavailable`. Closing the
    stream closes the connection, at which vLLM and llama-server stop decoding. Stop texts are matched here, not sent. A request
    with neither prompt nor suffix is an empty generation, and is not sent: vLLM refuses it.

    Adapters are vLLM's (`/v1/load_lora_adapter`, switched on there by `--enable-lora` and
    `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`). The adapter's label is the model's name in the requests that use it.

    Secrets: the API key is read from an environment variable at the first request, sent in the `Authorization` header and
    written nowhere; messages never repeat the prompt. Not covered: what the server itself logs.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        headers: Callable[[], Mapping[str, str]] | None = None,
        more_of: Callable[[GenerationRequest], Mapping[str, Any]] | None = None,
        connect_timeout_s: float = 5.0,
        generator_id: str | None = None,
        unload_adapters: bool = False,
    ) -> None:
        """`base_url` up to and including `/v1`. `api_key_env`: the *name* of an environment variable, never a key.

        `headers` is asked with each request for what shows who asks, where that is kept elsewhere; may raise `BackendRefused`.
        `more_of` gives further fields of a request's body, for servers that understand more than OpenAI's form.

        `unload_adapters`: take an adapter off the server when this backend's last stream with it has ended. Only where nobody
        else uses the server: another client's requests for it would be refused from then on.
        """
        if not base_url.startswith(("http://", "https://")):
            raise GeneratorError(f"the server's address must begin with http:// or https://, not {base_url[:60]!r}")
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._api_key_env = api_key_env
        self._more_headers = headers
        self._more_of = more_of
        self._connect_timeout_s = connect_timeout_s
        self._id = generator_id or model.rsplit("/", 1)[-1].lower()
        self._adapters = AdapterSwitch(self._load, self._unload if unload_adapters else None)
        self._client: httpx.AsyncClient | None = None
        self._streams = Streams("the connection to the model server")
        self._closed = False

    @property
    def generator_id(self) -> str:
        return adapted_id(self._id, self._adapters.current)

    @property
    def adapter(self) -> Adapter | None:
        """See `TakesAdapters.adapter`."""
        return self._adapters.current

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`. Raises `BackendRefused` also where the server gives no log-probs."""
        adapter = self._adapters.current
        model = self._model if adapter is None else adapter.label
        with self._adapters.using(adapter):
            async with aclosing(self._streams.keep(request, self._tokens(request, model))) as tokens:
                async for token in tokens:
                    yield token

    async def use_adapter(self, adapter: Adapter | None) -> None:
        """See `TakesAdapters.use_adapter`. The adapter's path is one of the server's machine."""
        await self._adapters.use(adapter)

    async def aclose(self) -> None:
        """Close all connections; open streams end with `BackendUnavailable`. Idempotent. Adapters stay on the server."""
        self._closed = True
        self._streams.close()
        await self._adapters.aclose()
        if self._client is not None:
            await self._client.aclose()

    async def _load(self, adapter: Adapter) -> None:
        await self._manage("load_lora_adapter", {"lora_name": adapter.label, "lora_path": adapter.path})

    async def _unload(self, adapter: Adapter) -> None:
        await self._manage("unload_lora_adapter", {"lora_name": adapter.label})

    async def _manage(self, command: str, body: dict[str, str]) -> None:
        """Ask the server for an adapter. Raises `BackendRefused`, `BackendUnavailable` and `GenerationTimedOut`."""
        try:
            async with asyncio.timeout(_ADAPTER_TIMEOUT_S):
                response = await self._send(f"/{command}", body)
                try:
                    if response.status_code == 200:
                        return
                    answer = await _answer(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise GenerationTimedOut(f"the model server did not {command} in {_ADAPTER_TIMEOUT_S:g} s") from None
        except httpx.TransportError as error:
            raise BackendUnavailable(f"the connection to the model server broke ({type(error).__name__})") from error
        if already_done(answer):
            return
        raise adapter_refusal_of(response.status_code, answer)

    async def _tokens(self, request: GenerationRequest, model: str) -> AsyncGenerator[Token, None]:
        """Tokens as they come, then an end mark."""
        if not request.prompt and not request.suffix:
            yield end_mark(FinishReason.END)
            return
        more = {} if self._more_of is None else self._more_of(request)
        response = await self._send("/completions", {**body_of(request, model), **more})
        try:
            if response.status_code != 200:
                raise refusal_of(response.status_code, await _answer(response), request)
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise BackendUnavailable("the model server does not stream: its answer is not text/event-stream")
            async for data in _events(response):
                if data == "[DONE]":
                    return
                tokens, finish = _parse(data, request)
                for token in tokens:
                    yield token
                if finish is not None:
                    yield end_mark(finish)
                    return
        except httpx.TransportError as error:
            raise BackendUnavailable(f"the connection to the model server broke ({type(error).__name__})") from error
        finally:
            await response.aclose()

    async def _send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        client = self._connected_client()
        built = client.build_request("POST", self._base_url + path, json=body, headers=self._headers())
        try:
            return await client.send(built, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass  # tried once more below
        except httpx.TransportError as error:
            raise BackendUnavailable(f"the model server did not answer ({type(error).__name__})") from error
        try:
            return await client.send(built, stream=True)
        except httpx.TransportError as error:
            raise BackendUnavailable(f"the model server at {built.url.host} cannot be reached: is it running?") from error

    def _connected_client(self) -> httpx.AsyncClient:
        if self._closed:
            raise BackendUnavailable("the connection to the model server was shut down")
        if self._client is None:
            # Waiting for tokens is timed per request, above; only connecting has a limit of its own.
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=self._connect_timeout_s))
        return self._client

    def _headers(self) -> dict[str, str]:
        if self._more_headers is not None:
            return dict(self._more_headers())
        return authorization(self._api_key_env)


def body_of(request: GenerationRequest, model: str) -> dict[str, Any]:
    """The request in the words of `/v1/completions`."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stream": True,
        "logprobs": 1,
    }
    if request.suffix is not None:
        body["suffix"] = request.suffix
    if request.seed is not None:
        body["seed"] = request.seed
    return body


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of each server-sent event.

    Lines are split at line feeds only: `str.splitlines`, which httpx uses, also splits at U+2028 and U+0085, and those stand
    unescaped inside the JSON of servers that send UTF-8.
    """
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise BackendUnavailable("the model server sent a line of more than 1 MiB")
        for line in lines:
            data = event_data(line)
            if data is not None:
                yield data


def _parse(data: str, request: GenerationRequest) -> tuple[list[Token], FinishReason | None]:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise refusal_of(int(chunk["error"].get("code") or 500), chunk, request)
        return tokens_of(chunk)
    except NoLogprobs:
        raise BackendRefused(
            "the model server gives no log-probs, which the gate needs: switch them on there, or use another backend"
        ) from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BackendUnavailable(f"the model server sent something that is no completion ({type(error).__name__})") from error


async def _answer(response: httpx.Response) -> Any:
    """What a server says with a status that is not 200; `{}` where it is no JSON."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MAX_ERROR_BYTES:
            break
    try:
        return json.loads(body)
    except ValueError:
        return {}
