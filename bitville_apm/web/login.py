"""Logging in with a one-time link, and out. Looking at a link does not use it up: only its button does."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
from klein import Klein
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.web.access import FORM_TOKEN, Access
from bitville_apm.web.api import problem_of
from bitville_apm.web.elements import Frame, filled, page
from bitville_apm.web.static import Static

SEE_OTHER = 303


def redirect(request: Request, address: str) -> bytes:
    """Send a browser elsewhere, to be fetched with GET."""
    request.setResponseCode(SEE_OTHER)
    request.setHeader(b"Location", address.encode())
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
        """Where strangers are sent: how to get a link."""
        return await self._page(request, "Log in", tags.p("You get in by a one-time link."), new_link())

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
        if session is not None:
            await self.access.auth.log_out(session)
        self.access.set_cookie(request, new)
        return redirect(request, "/")

    @app.handle_errors(Exception)
    async def failed(self, request: Any, failure: Failure) -> bytes:
        """Every error is a page."""
        return await problem_page(request, self.static, failure, Frame("Log in"))

    async def _page(self, request: Request, heading: str, *content: Flattenable) -> bytes:
        return await page(request, self.static, Frame(heading), filled("message", heading=heading, content=content))


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
