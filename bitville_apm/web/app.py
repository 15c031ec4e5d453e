"""The web's root: which part answers which path, and what every answer carries."""

from __future__ import annotations

import re

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from bitville_apm.http import HttpProblem, Refused
from bitville_apm.interfaces import IAuth, IExplainer
from bitville_apm.store.interface import IStore
from bitville_apm.web.access import Access
from bitville_apm.web.api import Api
from bitville_apm.web.login import Login
from bitville_apm.web.pages import Pages
from bitville_apm.web.questions import Questions
from bitville_apm.web.static import Static

SECURITY = {
    b"Content-Security-Policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    b"X-Content-Type-Options": b"nosniff",
    b"Referrer-Policy": b"same-origin",
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Cache-Control": b"no-store",
}
"""On every answer; only static files say another Cache-Control."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")


def resource(store: IStore, auth: IAuth, clock: IReactorTime, explainer: IExplainer) -> IResource:
    """Everything below `/` that is not for agents.

    `clock` is the reactor: it tells the time and, where it has threads, large records are read in them. `explainer`
    explains windows picked by hand.
    """
    access = Access(auth)
    static = Static()
    questions = Questions(store, clock, explainer)
    pages = Pages(access, questions, static)
    return _Root(
        {
            b"api": Api(access, questions).app.resource(),
            b"static": static,
            b"login": Login(access, static).app.resource(),
        },
        pages.app.resource(),
    )


class _Root(Resource):
    """The parts with a path of their own, and the pages for all else."""

    def __init__(self, parts: dict[bytes, IResource], pages: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parts = parts
        self._pages = pages

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """The part for a path; its answer carries the headers from here on, whatever becomes of it."""
        for name, value in SECURITY.items():
            request.setHeader(name, value)
        if not _HOST.match(request.getHeader(b"host") or b""):
            return Refused(HttpProblem(400, "the Host header is missing or no host name"))
        prepath, postpath = request.prepath or [], request.postpath or []
        try:
            b"/".join([*prepath, *postpath]).decode()
        except UnicodeDecodeError:
            return Refused(HttpProblem(400, "the path is not UTF-8"))
        part = self._parts.get(path)
        if part is not None:
            return part
        request.prepath, request.postpath = prepath[:-1], [*prepath[-1:], *postpath]
        return self._pages
