"""Any server that speaks OpenAI's `/v1/completions`: vLLM, llama-server, Ollama and others.

The raw-text endpoint is used, never the chat one: only it continues a text, and only there do log-probs belong to the text.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx

from coderl_generator.backend import FinishReason, GenerationRequest, Patience, Token, end_mark
from coderl_generator.errors import BackendRefused, BackendUnavailable, GenerationTimedOut, GeneratorError
from coderl_generator.openai_wire import NoLogprobs, event_data, refusal_of, tokens_of
from coderl_generator.stop_texts import StopTexts

_MAX_LINE_BYTES = 1 << 20
_MAX_ERROR_BYTES = 1 << 16


class OpenAiBackend:
    """Streams completions from a server over HTTP.

    A connection that cannot be made is tried once more before the first token; nothing else is tried again. An answer 4xx is
    `BackendRefused` (429 is `BackendUnavailable`), 5xx and a connection that breaks are `BackendUnavailable`. Closing the
    stream closes the connection, at which vLLM and llama-server stop decoding. Stop texts are matched here, not sent.

    Secrets: the API key is read from an environment variable at the first request, sent in the `Authorization` header and
    written nowhere; messages never repeat the prompt. Not covered: what the server itself logs.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        connect_timeout_s: float = 5.0,
        generator_id: str | None = None,
    ) -> None:
        """`base_url` up to and including `/v1`. `api_key_env`: the *name* of an environment variable, never a key."""
        if not base_url.startswith(("http://", "https://")):
            raise GeneratorError(f"the server's address must begin with http:// or https://, not {base_url[:60]!r}")
        self._url = base_url.rstrip("/") + "/completions"
        self._model = model
        self._api_key_env = api_key_env
        self._connect_timeout_s = connect_timeout_s
        self._id = generator_id or model.rsplit("/", 1)[-1].lower()
        self._client: httpx.AsyncClient | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def generator_id(self) -> str:
        return self._id

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`. Raises `BackendRefused` also where the server gives no log-probs."""
        loop = asyncio.get_running_loop()
        patience = Patience(request, loop.time())
        stops = StopTexts(request.stop)
        tokens = self._tokens(request)
        try:
            while True:
                token = await self._next(tokens, request, patience)
                for one in stops.flush() if token.finish else stops.push(token):
                    yield one
                if stops.hit:
                    token = end_mark(FinishReason.STOP)
                elif not token.finish and patience.over(loop.time()):
                    for one in stops.flush():
                        yield one
                    token = end_mark(FinishReason.DEADLINE)
                if token.finish:
                    # The connection goes first: a consumer that stops reading here must not keep the server decoding.
                    await tokens.aclose()
                    yield token
                    return
        finally:
            await tokens.aclose()

    async def aclose(self) -> None:
        """Close all connections; open streams end with `BackendUnavailable`. Idempotent."""
        self._closed = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())
        if self._client is not None:
            await self._client.aclose()

    async def _next(self, tokens: AsyncGenerator[Token, None], request: GenerationRequest, patience: Patience) -> Token:
        loop = asyncio.get_running_loop()
        wait = asyncio.timeout(patience.wait_s(loop.time()))
        try:
            async with wait:
                self._waits.add(wait)
                return await anext(tokens)
        except StopAsyncIteration:
            raise BackendUnavailable("the model server ended the stream without a reason") from None
        except TimeoutError:
            if self._closed:
                raise BackendUnavailable("the connection to the model server was shut down") from None
            if patience.over(loop.time()):
                return end_mark(FinishReason.DEADLINE)
            raise GenerationTimedOut(f"the model server gave no token in {request.timeout_s:g} s") from None
        finally:
            self._waits.discard(wait)

    async def _tokens(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """Tokens as they come, then an end mark."""
        response = await self._send(request)
        try:
            if response.status_code != 200:
                raise await _refusal(response, request)
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

    async def _send(self, request: GenerationRequest) -> httpx.Response:
        client = self._connected_client()
        built = client.build_request("POST", self._url, json=self._body(request), headers=self._headers())
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
        if self._api_key_env is None:
            return {}
        key = os.environ.get(self._api_key_env)
        if not key:
            raise BackendRefused(f"the environment variable {self._api_key_env} should hold the API key, but is not set")
        return {"Authorization": f"Bearer {key}"}

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
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


async def _refusal(response: httpx.Response, request: GenerationRequest) -> GeneratorError:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MAX_ERROR_BYTES:
            break
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    return refusal_of(response.status_code, answer, request)
