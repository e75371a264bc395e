"""Pages from templates: HTML that is safe by itself, and headers that let it load this server's own files and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import jinja2
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response

from coderl_gate.errors import GateError
from coderl_generator.errors import GeneratorError
from coderl_store.errors import DatabaseError

from ..problems import Problem, unavailable
from ..rights import Right
from . import numbers
from .visit import ROOT, Visitor

PAGE_HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ),
        "Referrer-Policy": "same-origin",  # with `no-referrer` a browser says of its own form only that it comes from `null`
    }
)
STATIC = MappingProxyType({"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"})
"""Every file that a page may load, and its type."""
MENU = (
    ("", "Is it worth it?"),
    ("honest", "Is it honest?"),
    ("silent", "Why was it silent?"),
    ("what-if", "What if?"),
    ("models", "Models"),
    ("training", "Training"),
    ("health", "Health"),
    ("my-data", "My data"),
)
"""The last part of the address → title, in order."""


class Pages:
    """The templates, read once."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._environment.globals.update(root=ROOT, menu=MENU, n=numbers, version=static_version(), Right=Right)

    def page(self, name: str, visitor: Visitor | None, status: int = 200, /, **values: Any) -> Response:
        """A whole page, or with a name that begins with `_` a part of one."""
        text = self._environment.get_template(f"{name}.html").render(name=name, visitor=visitor, **values)
        return HTMLResponse(text, status, dict(PAGE_HEADERS))

    def route_class(self) -> type[APIRoute]:
        """Of routes whose refusals and failures are pages too."""
        return type("PageRoute", (_PageRoute,), {"pages": self})


class _PageRoute(APIRoute):
    pages: Pages

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                if problem.status_code == 303:
                    raise
                return self._said(problem)
            except DatabaseError:
                return self._said(unavailable("The database cannot be used now."))
            except (GateError, GeneratorError) as error:
                return self._said(Problem(409, "refused", str(error)))

        return handled

    def _said(self, problem: Problem) -> Response:
        answer = self.pages.page("problem", None, problem.status_code, problem=problem)
        for name, value in (problem.headers or {}).items():
            answer.headers[name] = value
        return answer


def static(name: str) -> Response:
    """One of the files of `STATIC`; its address changes with its content, so it may be kept for long."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_read(name), media_type=STATIC[name], headers=headers)


def static_version() -> str:
    """Changes with any of the files."""
    return hashlib.sha256(b"".join(_read(name) for name in STATIC)).hexdigest()[:12]


def _read(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()
