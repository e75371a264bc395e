"""The link to a team server: looks after it, takes its model and gate, and falls back to this machine's model while it is away.

Stage 1 of every decision is taken here, with the team's gate from the disk; only what is worth generating goes to the server.
Its state is looked at now and then, and at once after a generation failed. While it is away its gate still decides; suggestions
come from the model of this machine, where there is one. That is said (status, one message), and said to be over.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from coderl_gate.errors import ArtifactError
from coderl_generator.backend import Backend, GenerationRequest, Token
from coderl_generator.errors import BackendRefused, BackendUnavailable
from coderl_generator.families import PLAIN
from coderl_generator.fim_templates import TEMPLATES
from coderl_generator.openai_http import OpenAiBackend

from ..errors import InputError
from .address import TEAM, TeamServer
from .facts import Facts, keep, read

EVERY_S, RETRY_S, PAUSE_S = 30.0, 3.0, 0.2
"""How often the server is asked while it is there, while it is away, and at most."""
TIMEOUT_S, CONNECT_S, MEET_S = 10.0, 3.0, 1.0
UNKNOWN = "unknown"
"""Generator id before the server was ever reached."""
logger = logging.getLogger(__name__)
Use = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Away(Exception):
    """The server cannot be used now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """The model of this machine."""

    model: str
    """As the command line names it."""
    generator_id: str


class Link:
    """Used on the event loop. `connect` gives it what it changes, then `follow` runs until it is cancelled."""

    def __init__(self, server: TeamServer, folder: Path, fallback: Fallback | None) -> None:
        self._server = server
        self._folder = folder
        self._fallback = fallback
        self._wanted = asyncio.Event()
        self._client: httpx.AsyncClient | None = None
        self._use: Use
        self._gate_changed: Callable[[], Awaitable[None]]
        self._notice: Callable[[str, str], None]
        self.facts: Facts = read(folder)
        self.remote = bool(self.facts.generator_id) or fallback is None
        """Whether the server's model is the one in use."""

    def connect(self, use: Use, gate_changed: Callable[[], Awaitable[None]], notice: Callable[[str, str], None]) -> None:
        """`use` and `gate_changed` are those of `Generators`; `notice` hears, as `server`, what is wrong, or nothing."""
        self._use, self._gate_changed, self._notice = use, gate_changed, notice

    def meet(self) -> None:
        """Where this machine does not know what the server serves, ask once, so that the first key can name the model. Blocks,
        for a second or two at most; what fails is told by the first look."""
        if self.facts.generator_id:
            return
        try:
            with httpx.Client(timeout=MEET_S) as client:
                answer = client.get(f"{self._server.url}/v1/models", headers=self._server.headers())
            if answer.status_code == 200:
                self.facts = _serving(self.facts, answer.json())
        except (InputError, httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            logger.info("What the team's server serves is not known yet (%s).", type(error).__name__)
        self.remote = self.remote or bool(self.facts.generator_id)

    @property
    def gate(self) -> Path | None:
        """The team's gate on this disk, as far as one was ever sent."""
        return self.facts.gate(self._folder)

    @property
    def template(self) -> str:
        """That of the server's model; `plain` where this version does not know it."""
        return self.facts.template if self.facts.template in TEMPLATES else PLAIN

    def backend(self) -> Backend:
        """The server's model as it is known to be."""
        name = self.facts.generator_id or UNKNOWN
        made = OpenAiBackend(
            f"{self._server.url}/v1",
            name,
            headers=self._headers,
            more_of=_more_of,
            connect_timeout_s=CONNECT_S,
            generator_id=name,
        )
        return _Told(made, self._wanted.set, forces_beginning=self.facts.forces_beginning)

    def _headers(self) -> Mapping[str, str]:
        try:
            return self._server.headers()
        except InputError as error:
            raise BackendRefused(str(error)) from error

    async def follow(self) -> None:
        """Look after the server until this is cancelled."""
        try:
            while True:
                there = await self.look()
                await asyncio.sleep(PAUSE_S)
                try:
                    async with asyncio.timeout(EVERY_S if there else RETRY_S):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
                self._wanted.clear()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def look(self) -> bool:
        """Ask the server, and take what it says. Whether it is there."""
        try:
            facts, gate = await self._asked()
        except Away as away:
            await self._fall_back(str(away))
            return False
        facts = replace(facts, user_key=facts.user_key or await self._own_key())
        known, self.facts = self.facts, facts
        try:
            if facts != known:
                await asyncio.to_thread(keep, self._folder, facts, gate)
        except (OSError, ArtifactError) as error:
            self.facts = replace(facts, gate_etag=known.gate_etag)
            logger.warning("What the team's server sent cannot be kept: %s", error)
        if not facts.generator_id:
            await self._fall_back("The team's server serves no model.")
        elif not self.remote or facts.generator_id != known.generator_id:
            told = await self._use({"model": TEAM})
            self.remote = told["generator"] == facts.generator_id
            self._notice("server", "" if self.remote else f"The team's model cannot be used: {told['message']}")
        else:
            self._notice("server", "")
        if self.facts.gate_etag != known.gate_etag:
            await self._gate_changed()
        return True

    async def _fall_back(self, why: str) -> None:
        if self._fallback is None:
            self._notice("server", f"{why} There are no suggestions meanwhile: no model is installed on this machine.")
            return
        if self.remote:
            told = await self._use({"model": self._fallback.model})
            if told["generator"] != self._fallback.generator_id:
                self._notice("server", f"{why} The model of this machine cannot be used either: {told['message']}")
                return
            self.remote = False
        self._notice("server", f"{why} Suggestions come from {self._fallback.generator_id} on this machine meanwhile.")

    async def _asked(self) -> tuple[Facts, bytes | None]:
        """What the server serves, and its gate unless it is the one that is known. Raises `Away`."""
        try:
            models = await self._get("/v1/models")
            gate = await self._get("/v1/gate", self.facts.gate_etag)
            facts = _serving(self.facts, models.json())
        except InputError as error:
            raise Away(str(error)) from error
        except httpx.HTTPError as error:
            raise Away(f"The team's server cannot be reached ({type(error).__name__}).") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Away("What answers at --server is no team server.") from error
        if gate.status_code == 304:
            return facts, None
        return replace(facts, gate_etag=gate.headers.get("ETag", "")), gate.content

    async def _own_key(self) -> str:
        """Whose the rows are there; empty where that cannot be looked up now."""
        try:
            return str((await self._get("/v1/me")).json()["user_key"])
        except (Away, InputError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            logger.info("Who the token names is not known yet (%s).", type(error).__name__)
            return ""

    async def _get(self, path: str, etag: str = "") -> httpx.Response:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S))
        headers = {**self._server.headers(), **({"If-None-Match": etag} if etag else {})}
        answer = await self._client.get(f"{self._server.url}{path}", headers=headers)
        if answer.status_code in (401, 403):
            raise Away("The team's server refuses the token: ask for a new one and put it into CODERL_TOKEN or the token file.")
        if answer.status_code == 421:
            raise Away("The team's server is not known by the name in --server: `coderl serve --name NAME` adds one.")
        if answer.status_code not in (200, 304):
            raise Away(f"The team's server cannot be used (HTTP {answer.status_code}).")
        return answer


def _serving(facts: Facts, models: Any) -> Facts:
    """The facts with what `/v1/models` answered. Raises what comes of an answer that is none."""
    served = models["data"]
    if not served:
        return replace(facts, generator_id="", template="", forces_beginning=False)
    return replace(
        facts,
        generator_id=str(served[0]["id"]),
        template=str(served[0]["template"]),
        forces_beginning=bool(served[0]["forces_beginning"]),
    )


def _more_of(request: GenerationRequest) -> Mapping[str, Any]:
    """What a relay understands beyond OpenAI's form. The document's key is hashed: a path is nobody else's business."""
    key = hashlib.sha256(request.document.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return {"begins_with": request.begins_with, "one_line": request.one_line, "user": key}


class _Told:
    """A backend whose failures are told."""

    def __init__(self, backend: Backend, failed: Callable[[], object], *, forces_beginning: bool) -> None:
        self._backend = backend
        self._failed = failed
        self.forces_beginning = forces_beginning

    @property
    def generator_id(self) -> str:
        return self._backend.generator_id

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`."""
        try:
            async with aclosing(self._backend.stream(request)) as tokens:
                async for token in tokens:
                    yield token
        except (BackendUnavailable, BackendRefused):
            self._failed()
            raise

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._backend.aclose()
