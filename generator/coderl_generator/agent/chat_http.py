"""A chat model behind any server that speaks OpenAI's `/chat/completions`: vLLM, llama-server, Ollama, a proxy, and others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from coderl_generator.api_key import authorization
from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import BackendUnavailable, GenerationTimedOut, GeneratorError, ToolsRefused
from coderl_generator.openai_wire import event_data, message_of, refusal_of

from .calls import ToolSpec
from .chat import Chunks, Message, Reply, Sampling

_CONNECT_S = 10.0
_MOST_LINE_BYTES = 8 << 20
_MOST_ERROR_BYTES = 1 << 16


class HttpChat:
    """Streams replies from one server.

    A connection that cannot be made is tried once more; nothing else is tried again, and a refusal (HTTP 4xx) never. Where a
    server refuses the field `tools`, `ToolsRefused` is raised once and `native_tools` turns false: from then on the text
    protocol is used. The API key is read from an environment variable and written nowhere.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "",
        native_tools: bool = True,
        capture: bool = False,
        client: httpx.Client | None = None,
    ) -> None:
        """`base_url` up to and including `/v1`. `native_tools`: false = the text protocol from the start. `capture`: ask for
        token ids and log-probs, in vLLM's words; other servers may refuse that.

        Raises `GeneratorError` for an address that is none, or a variable that is not set.
        """
        if not base_url.startswith(("http://", "https://")):
            raise GeneratorError(f"the server's address must begin with http:// or https://, not {base_url[:60]!r}")
        self.name = model
        self.native_tools = native_tools
        self._address = base_url.rstrip("/") + "/chat/completions"
        self._capture = capture
        headers = authorization(api_key_env or None)
        self._client = client or httpx.Client(headers=headers)

    def reply(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        *,
        timeout_s: float,
        heard: Callable[[str], None] = lambda text: None,
    ) -> Reply:
        """See `ChatModel`."""
        until_s = time.monotonic() + timeout_s
        body = self._body(messages, sampling)
        if tools and self.native_tools:
            try:
                return self._streamed({**body, "tools": [one.to_json() for one in tools]}, until_s, heard)
            except ToolsRefused:
                self.native_tools = False
                raise
        return self._streamed(body, until_s, heard)

    def close(self) -> None:
        """See `ChatModel`."""
        self._client.close()

    def _body(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": list(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if self._capture:
            body |= {"logprobs": True, "return_token_ids": True}
        return body

    def _streamed(self, body: dict[str, Any], until_s: float, heard: Callable[[str], None]) -> Reply:
        chunks = Chunks(heard)
        late = GenerationTimedOut("the model server did not end its reply in time")
        try:
            response = self._send(body, until_s)
            try:
                if response.status_code != 200:
                    raise _refusal(response.status_code, _answer(response), asked_tools="tools" in body)
                if "text/event-stream" in response.headers.get("content-type", ""):
                    _listen(_events(response, until_s, late), chunks, asked_tools="tools" in body)
                else:
                    chunks.add(json.loads(response.read()))
            finally:
                response.close()
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout) as error:
            raise late from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise BackendUnavailable(f"the connection to the model server broke ({type(error).__name__})") from error
        except (ValueError, AttributeError, TypeError) as error:
            if isinstance(error, GeneratorError):
                raise
            raise BackendUnavailable(f"the model server sent something that is no chat ({type(error).__name__})") from error
        if not chunks.finish:
            raise BackendUnavailable("the model server ended its reply without a reason: the connection broke")
        return chunks.reply()

    def _send(self, body: dict[str, Any], until_s: float) -> httpx.Response:
        left_s = max(0.1, until_s - time.monotonic())
        timeout = httpx.Timeout(left_s, connect=min(_CONNECT_S, left_s))
        request = self._client.build_request("POST", self._address, json=body, timeout=timeout)
        try:
            return self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass  # tried once more below
        try:
            return self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise BackendUnavailable(f"the model server at {request.url.host} cannot be reached: is it running?") from error


def _listen(events: Iterator[str], chunks: Chunks, *, asked_tools: bool) -> None:
    for data in events:
        if data == "[DONE]":
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise _refusal(int(chunk["error"].get("code") or 500), chunk, asked_tools=asked_tools)
        chunks.add(chunk)


def _refusal(status: int, answer: Any, *, asked_tools: bool) -> GeneratorError:
    message = message_of(answer)
    if asked_tools and 400 <= status < 502 and any(word in message.lower() for word in ("tool", "function call")):
        return ToolsRefused(f"the model server takes no tools (HTTP {status}): {message}")
    return refusal_of(status, answer, GenerationRequest(""))


def _events(response: httpx.Response, until_s: float, late: GenerationTimedOut) -> Iterator[str]:
    """The data of each server-sent event; lines end at line feeds only, as in `openai_http`."""
    rest = b""
    for part in response.iter_bytes():
        if time.monotonic() > until_s:
            raise late
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _MOST_LINE_BYTES:
            raise BackendUnavailable(f"the model server sent a line of more than {_MOST_LINE_BYTES >> 20} MiB")
        for line in lines:
            data = event_data(line)
            if data:
                yield data


def _answer(response: httpx.Response) -> Any:
    body = b""
    for part in response.iter_bytes():
        body += part
        if len(body) > _MOST_ERROR_BYTES:
            break
    try:
        return json.loads(body)
    except ValueError:
        return {}
