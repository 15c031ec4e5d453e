"""Logging in, with a password or a one-time link. Looking at a link does not use it up: only its button does."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
from klein import Klein
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.interfaces import TooOften
from bitville_apm.web.access import FORM_TOKEN, Access
from bitville_apm.web.api import problem_of
from bitville_apm.web.elements import Frame, filled, page
from bitville_apm.web.prefix import prefix_of
from bitville_apm.web.static import Static

SEE_OTHER = 303


def redirect(request: Request, address: str) -> bytes:
    """Send a browser elsewhere, to be fetched with GET."""
    request.setResponseCode(SEE_OTHER)
    request.setHeader(b"Location", (prefix_of(request) + address).encode())
    return b""


def new_link() -> Tag:
    """How to get in."""
    return tags.p(
        "On the collector's machine, ", tags.code("bitville user link admin"), " prints a link that works once."
    )


@attrs.define(eq=False, slots=False)
class Login:
    """The routes below `/login`."""

    access: Access
    static: Static
    app: ClassVar[Klein] = Klein()

    @app.route("/", methods=["GET"], strict_slashes=False)
    async def how(self, request: Request) -> bytes:
        """Where strangers are sent: the form for those with a password, and how to get a link."""
        return await self._form(request)

    @app.route("/", methods=["POST"], strict_slashes=False)
    async def by_password(self, request: Request) -> bytes:
        """Try a name and a password."""
        _, session = await self.access.person(request)
        self.access.check_form(request, session)
        name, password = (_field(request, field) for field in (b"name", b"password"))
        address = getattr(request.getClientAddress(), "host", "")
        try:
            new = await self.access.auth.log_in_with(name, password, address)
        except TooOften as problem:
            request.setResponseCode(429)
            request.setHeader(b"Retry-After", b"%d" % problem.wait)
            return await self._form(request, f"Too many tries. Wait {problem.wait} seconds.")
        if new is None:
            request.setResponseCode(403)
            return await self._form(request, "This name and this password do not belong together.")
        return await self._entered(request, session, new)

    @app.route("/<token>", methods=["GET"])
    async def ask(self, request: Request, token: str) -> bytes:
        """The link itself: a button, so that no preview of it by a mail or chat program uses it up."""
        _, session = await self.access.person(request)
        form = tags.form(
            tags.input(type="hidden", name=FORM_TOKEN.decode(), value=self.access.form_token(session)),
            tags.button("Log in", type="submit", autofocus="autofocus"),
            method="post",
        )
        return await self._page(request, "Log in", tags.p("This link works once, for this browser."), form)

    @app.route("/<token>", methods=["POST"])
    async def use(self, request: Request, token: str) -> bytes:
        """Use the link up, for a session of this browser."""
        _, session = await self.access.person(request)
        self.access.check_form(request, session)
        new = await self.access.auth.log_in(token)
        if new is None:
            request.setResponseCode(403)
            text = tags.p("It was used before, is too old, or was not copied whole.")
            return await self._page(request, "This link no longer works", text, new_link())
        return await self._entered(request, session, new)

    async def _entered(self, request: Request, old: str | None, new: str) -> bytes:
        if old is not None:
            await self.access.auth.log_out(old)
        self.access.set_cookie(request, new)
        return redirect(request, "/")

    @app.handle_errors(Exception)
    async def failed(self, request: Any, failure: Failure) -> bytes:
        """Every error is a page."""
        return await problem_page(request, self.static, failure, Frame("Log in"))

    async def _form(self, request: Request, problem: str = "") -> bytes:
        _, session = await self.access.person(request)
        form = tags.form(
            tags.input(type="hidden", name=FORM_TOKEN.decode(), value=self.access.form_token(session)),
            tags.label("Name", tags.input(name="name", autocomplete="username", required="", autofocus="autofocus")),
            tags.label(
                "Password", tags.input(name="password", type="password", autocomplete="current-password", required="")
            ),
            tags.button("Log in", type="submit"),
            method="post",
            action="/login",
        )
        said = [tags.p(problem, role="alert", class_="alarm")] if problem else []
        return await self._page(request, "Log in", *said, form, tags.p("No password yet?"), new_link())

    async def _page(self, request: Request, heading: str, *content: Flattenable) -> bytes:
        return await page(request, self.static, Frame(heading), filled("message", heading=heading, content=content))


def _field(request: Request, name: bytes) -> str:
    text: str = (request.args.get(name) or [b""])[0].decode("utf-8", "replace")
    return text[: limits.PASSWORD_CHARACTERS_MOST]


async def problem_page(request: Request, static: Static, failure: Failure, frame: Frame) -> bytes:
    """An error as a page: what is wrong, in words, and never anything of our insides."""
    problem = problem_of(request, failure)
    request.setResponseCode(problem.status)
    for name, value in problem.headers.items():
        request.setHeader(name.encode(), value.encode())
    heading = {400: "Something in the address is wrong", 403: "Not yours to see", 404: "There is nothing here"}.get(
        problem.status, "This did not work"
    )
    said = problem.message[:1].upper() + problem.message[1:].rstrip(".") + "."
    content = [tags.p(said), tags.p(tags.a("Back to the requests", href="/"))]
    body = filled("message", heading=heading, content=content)
    return await page(request, static, attrs.evolve(frame, title=heading), body)
