"""What every request passes before any route sees it, and every answer on its way out. Pure ASGI, so that streams stay streams.

In: the `Host` is one of ours (a page that had its own name point at this machine, DNS rebinding, sends its own name); a request
that a browser made for another site is refused, whatever its method, but for a person who follows a link (CORS is closed, and
nothing can be posted from a page, with or without a token); the body is cut off above its size and after its time.
Out: security headers, unless the route set its own; an id of the request; and for what nobody expected a problem without a
traceback.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import Problem, response
from .settings import TeamSettings

SECURITY_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }
)
"""Right for an API. A page sets its own `Content-Security-Policy` on its response, which then stays."""
logger = logging.getLogger(__name__)


class Guards:
    """The outermost application."""

    def __init__(self, application: ASGIApp, settings: TeamSettings, metrics: Metrics) -> None:
        self._application = application
        self._hosts = settings.allowed_hosts
        self._limits = settings.limits
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        scope["coderl.request_id"] = request_id
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._application(scope, receive, send)
            return
        await self._http(scope, receive, send, request_id, refusal)

    async def _http(self, scope: Scope, receive: Receive, send: Send, request_id: str, refusal: Problem | None) -> None:
        begun_s, status = time.perf_counter(), 0

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
                answer["X-Request-ID"] = request_id
            await send(message)

        try:
            if refusal is not None:
                await response(refusal, request_id)(scope, receive, guarded_send)
            else:
                await self._application(scope, _Body(receive, self._limits.body_bytes, self._limits.body_s), guarded_send)
        except Exception as error:
            if not isinstance(error, Problem):
                logger.error("Request %s failed with %s at %s.", request_id, type(error).__name__, _place(error))
            if status:  # the answer has begun: the connection ends without its end, which a client notices
                raise Cut from None
            problem = error if isinstance(error, Problem) else _UNEXPECTED
            await response(problem, request_id)(scope, receive, guarded_send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count("coderl_requests_total", method=_method(scope), route=route, status=str(status))
            self._metrics.observe("coderl_request_seconds", time.perf_counter() - begun_s, route=route)

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if _host_name(host) not in self._hosts:
            return Problem(421, "host", "The server is not known by this name: `coderl serve --name NAME` adds one.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        followed = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate" and origin is None
        if (origin is not None and urlsplit(origin).netloc.lower() != host.lower()) or (
            site not in ("same-origin", "none") and not followed
        ):
            return Problem(403, "cross_origin", "Pages of other sites cannot use this server.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            return Problem(400, "malformed", "Content-Length is not a number.")
        return _too_large(self._limits.body_bytes) if len(length) > 18 or int(length) > self._limits.body_bytes else None


class Cut(Exception):
    """An answer that has begun cannot be ended. Its cause was logged."""


class _Body:
    """The receiving side of a request, with a limit on the body's size and on the time until all of it is there."""

    def __init__(self, receive: Receive, most_bytes: int, longest_s: float) -> None:
        self._receive = receive
        self._most_bytes, self._longest_s = most_bytes, longest_s
        self._size, self._ended = 0, False
        self._until_s: float | None = None

    async def __call__(self) -> Message:
        if self._ended:  # waiting for the client to leave may last
            return await self._receive()
        if self._until_s is None:  # the time of the route itself, such as looking up a token, is not the client's
            self._until_s = asyncio.get_running_loop().time() + self._longest_s
        try:
            async with asyncio.timeout_at(self._until_s):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "too_slow", f"The body was not there within {self._longest_s:g} s.", headers=_CLOSE) from None
        self._size += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._size > self._most_bytes:
            raise _too_large(self._most_bytes)
        return message


_CLOSE = MappingProxyType({"Connection": "close"})
_UNEXPECTED = Problem(500, "failed", "The server failed in a way it does not know; its log has the place.")


def _too_large(most_bytes: int) -> Problem:
    return Problem(413, "too_large", f"At most {most_bytes} bytes are taken at once: send smaller batches.", headers=_CLOSE)


def _host_name(host: str) -> str:
    """`Host` without its port, without the brackets of IPv6, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _method(scope: Scope) -> str:
    method = str(scope.get("method"))
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


def _place(error: BaseException) -> str:
    """File and line where an exception was raised. Its text stays out of the log: it may quote what was sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "nowhere" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
