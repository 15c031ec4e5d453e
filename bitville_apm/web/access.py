"""Who asks, and what they may see: the one place where pages and API decide it.

A program brings `Authorization: Bearer bv_…`, a person the cookie of a session. Either becomes a `Visit`; every
handler that shows data is wrapped in `authorised` and gets its projects from that visit only.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
from twisted.web.server import Request

from bitville_apm import limits
from bitville_apm.http import HttpProblem
from bitville_apm.interfaces import Caller, IAuth
from bitville_apm.store.interface import Projects

COOKIE = b"bitville_session"
FORM_TOKEN = b"form_token"


@attrs.frozen
class Visit:
    """One request by somebody known. `session` is the cookie's token, None when a key asked."""

    request: Request
    caller: Caller
    session: str | None

    def projects(self, project: str | None) -> Projects:
        """The projects an answer may come from: the caller's, or of these the one asked for.

        403 for one that is not theirs, whether it exists or not.
        """
        if project is None:
            return self.caller.projects
        if self.caller.projects is not None and project not in self.caller.projects:
            raise HttpProblem(403, f"{self.caller.name} may not see project {project}")
        return frozenset({project})


@attrs.frozen
class Access:
    """Tells visitors from strangers, and keeps the session cookie."""

    auth: IAuth

    async def visit(self, request: Request) -> Visit:
        """The visit behind a request. 401 for a stranger, 403 for a key that may not read."""
        header = request.getHeader(b"authorization")
        caller: Caller | None
        if header is not None:
            caller, session = await self._by_header(header), None
        else:
            caller, session = await self.person(request)
            if caller is None:
                raise _stranger("Missing Authorization header")
        if not caller.may("read"):
            raise HttpProblem(403, f"{caller.name} may not read; this needs the scope read")
        return Visit(request, caller, session)

    async def person(self, request: Request) -> tuple[Caller | None, str | None]:
        """The person whose session cookie came, and its token; (None, None) when there is no live session."""
        token = (request.getCookie(COOKIE) or b"").decode("latin-1")
        caller = await self.auth.by_session(token) if token else None
        return (caller, token) if caller is not None else (None, None)

    async def _by_header(self, header: bytes) -> Caller:
        scheme, _, key = header.decode("latin-1").partition(" ")
        caller = await self.auth.by_key(key.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise _stranger("Invalid API key")
        return caller

    def form_token(self, session: str | None) -> str:
        """What a form of this session carries; empty without one."""
        return self.auth.form_token(session) if session else ""

    def check_form(self, request: Request, session: str | None) -> None:
        """Refuse (403) a POST that another site could have sent: its Origin, and the session's form token."""
        origin = request.getHeader(b"origin")
        if origin is not None:
            host = (request.getHeader(b"host") or b"").decode("latin-1").lower()
            try:
                sender = urlsplit(origin.decode("latin-1").lower()).netloc
            except ValueError:
                sender = ""
            if not sender or sender != host:
                raise HttpProblem(403, "this form was sent from another site")
        given = (request.args.get(FORM_TOKEN) or [b""])[0]
        if session and not hmac.compare_digest(given, self.auth.form_token(session).encode()):
            raise HttpProblem(403, "this form is too old; go back, reload the page and send it again")

    def set_cookie(self, request: Request, token: str) -> None:
        """Give the browser its session."""
        request.addCookie(
            COOKIE,
            token.encode(),
            path=b"/",
            max_age=b"%d" % limits.SESSION_S,
            httpOnly=True,
            secure=request.isSecure(),
            sameSite=b"lax",
        )

    def drop_cookie(self, request: Request) -> None:
        """Take it back."""
        request.addCookie(
            COOKIE, b"", path=b"/", max_age=b"0", httpOnly=True, secure=request.isSecure(), sameSite=b"lax"
        )


def _stranger(message: str) -> HttpProblem:
    return HttpProblem(401, message, headers={"WWW-Authenticate": 'Bearer realm="Bitville APM"'})


class HasAccess(Protocol):
    """What the methods that `authorised` wraps belong to."""

    access: Access


T = TypeVar("T")


def authorised(
    handler: Callable[..., Coroutine[Any, Any, T]],
) -> Callable[..., Coroutine[Any, Any, T]]:
    """A route that only somebody known may have: its handler gets a `Visit` in place of the request."""

    @functools.wraps(handler)
    async def asked(self: HasAccess, request: Request, **arguments: Any) -> T:
        visit = await self.access.visit(request)
        return await handler(self, visit, **arguments)

    return asked
