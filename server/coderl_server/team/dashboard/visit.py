"""Who looks at a page, and from which side: the token in a cookie, the way in and out, and whose rows are shown.

The cookie holds the token's text, as `Access.caller` takes it: revoked tokens end sessions within seconds, and nothing is kept
here. `HttpOnly`: scripts cannot read it. `SameSite=Strict`: no other site's page sends it. `Path`: the API never sees it, so
nothing but these pages can be done with it. A form that changes something must come from a page of ours (`ours`), besides what
`guards` refuses already. Where no token was ever made, a server on loopback is as open as its API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from ..access import Access
from ..problems import Problem
from ..rights import Caller, Right

ROOT = "/dashboard"
SIGN_IN = f"{ROOT}/sign-in"
COOKIE = "coderl_token"
_MOST_FORM_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody at a page."""

    caller: Caller
    open: bool
    """The server has no tokens: its programmer may see everything."""

    def may(self, right: Right) -> bool:
        return right in self.caller.rights


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a page shows."""

    user_key: str | None
    """None: everybody's."""
    minimum: int
    """Programmers in the smallest group that is shown."""

    @property
    def everybody(self) -> bool:
        """Whether it is more than the visitor's own."""
        return self.user_key is None

    @property
    def name(self) -> str:
        """As it stands in addresses."""
        return "everybody" if self.everybody else "mine"


async def visitor(request: Request) -> Visitor:
    """Whoever looks; raises a redirection to the way in where that is not known."""
    access: Access = request.app.state.access
    text = request.cookies.get(COOKIE)
    try:
        caller = await access.caller(request, text)
    except Problem as problem:
        if problem.status_code != 401:
            raise
        raise to_sign_in(request) from None
    return Visitor(caller, open=text is None)


Looking = Annotated[Visitor, Depends(visitor)]


def to_sign_in(request: Request) -> Problem:
    """Raised where somebody must sign in first; they come back to where they wanted to go."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = f"?next={quote(wanted, safe='')}" if request.method == "GET" else ""
    return Problem(303, "sign_in", "Sign in with a token first.", headers={"Location": SIGN_IN + back})


def scope_of(visitor: Visitor, asked: str, min_group: int) -> Scope:
    """Own rows, or everybody's where the visitor may see groups (the default then)."""
    if asked == "mine" or not visitor.may(Right.AGGREGATES):
        return Scope(visitor.caller.user_key, 1)
    return Scope(None, 1 if visitor.open else min_group)


def require(visitor: Visitor, right: Right) -> None:
    """Raises `Problem` 403."""
    if not visitor.may(right):
        raise Problem(403, "forbidden", f"Your token has not the right `{right.value}`: another role has it.")


async def form(request: Request) -> dict[str, str]:
    """The fields of a form that a page of ours sent. Raises `Problem` 403 and 413."""
    ours(request)
    body = await request.body()
    if len(body) > _MOST_FORM_BYTES:
        raise Problem(413, "too_large", "No form of these pages is so large.")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def ours(request: Request) -> None:
    """Raises `Problem` 403 unless the browser says that a page of this server sent the request."""
    site, host = request.headers.get("sec-fetch-site"), request.headers.get("host", "").lower()
    origin = urlsplit(request.headers.get("origin", "")).netloc.lower()
    if site != "same-origin" and not (origin and origin == host):
        raise Problem(403, "cross_origin", "Forms are taken from this server's own pages only.")


def signed_in(request: Request, text: str, wanted: str) -> Response:
    """To where somebody wanted to go, with the cookie. Only places below `ROOT` count."""
    target = wanted if wanted.startswith(f"{ROOT}/") and "\\" not in wanted and not wanted.startswith("//") else f"{ROOT}/"
    answer = RedirectResponse(target, status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, text, path=ROOT, httponly=True, samesite="strict", secure=secure)
    return answer


def signed_out(request: Request) -> Response:
    """To the way in, without the cookie."""
    answer = RedirectResponse(SIGN_IN, status_code=303)
    secure = request.url.scheme == "https"
    answer.delete_cookie(COOKIE, path=ROOT, httponly=True, samesite="strict", secure=secure)
    return answer
