"""The JSON API (wire.md 8): read with a key or with a session, by whom `access` lets."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import msgspec
from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from bitville_apm import limits
from bitville_apm.http import HttpProblem, answer_problem
from bitville_apm.store.interface import TooSlow
from bitville_apm.web.access import Access, Visit, authorised
from bitville_apm.web.detail import detail_json
from bitville_apm.web.parameters import Parameters, ordered, search_of, wrong
from bitville_apm.web.questions import Questions, page_json, range_of

_log = Logger()


def answer_json(request: Request, value: Any) -> bytes:
    """A value as the body of an answer."""
    body = msgspec.json.encode(value) + b"\n"
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def problem_of(request: Request, failure: Failure) -> HttpProblem:
    """What to tell the asker of any failure; what is ours to mend goes to the log only."""
    error = failure.value
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"OPTIONS"}))
        message = f"{request.method.decode('latin-1')} is not for this route; it takes {allowed}"
        return HttpProblem(405, message, headers={"Allow": allowed})
    if isinstance(error, HTTPException):
        return HttpProblem(404, f"no route {request.path.decode('utf-8', 'replace')}")
    if isinstance(error, TooSlow):
        return HttpProblem(503, f"this took longer than {limits.READ_S:.0f} s; ask for a shorter time")
    _log.failure("request failed", failure=failure)
    return HttpProblem(500, "Internal error; the log of the collector says more")


@attrs.define(eq=False, slots=False)
class Api:
    """The routes below `/api`."""

    access: Access
    questions: Questions
    app: ClassVar[Klein] = Klein()

    @app.route("/search", methods=["GET"])
    @authorised
    async def search(self, visit: Visit) -> bytes:
        """QUERY-02: records that match."""
        project, search = search_of(Parameters.of(visit.request))
        page = await self.questions.search(visit.projects(project), search)
        return answer_json(visit.request, page_json(page))

    @app.route("/requests/<id>", methods=["GET"])
    @authorised
    async def one(self, visit: Visit, id: str) -> bytes:
        """One record whole, with its functions and statements."""
        Parameters.of(visit.request).done()
        detail = await self.questions.detail(visit.projects(None), id)
        return answer_json(visit.request, detail_json(detail))

    @app.route("/top", methods=["GET"])
    @authorised
    async def top(self, visit: Visit) -> bytes:
        """The heaviest values of a dimension."""
        parameters = Parameters.of(visit.request)
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS))
        if dimension is None:
            raise wrong("dimension", f"missing; one of {', '.join(limits.DIMENSION_CAPS)}")
        start, end = parameters.moment("from"), parameters.moment("to")
        host, project = parameters.text("host"), parameters.text("project")
        limit = parameters.whole("limit", 1, limits.TOP_LIMIT) or limits.SEARCH_DEFAULT
        parameters.done()
        ordered("from", start, "to", end)
        range_ = range_of(start, end, self.questions.now())
        top = await self.questions.top(visit.projects(project), dimension, range_, host, limit)
        return answer_json(visit.request, top.json())

    @app.route("/projects", methods=["GET"])
    @authorised
    async def projects(self, visit: Visit) -> bytes:
        """The projects that sent anything and that the caller may see."""
        Parameters.of(visit.request).done()
        return answer_json(visit.request, {"items": await self.questions.projects(visit.projects(None))})

    @app.route("/hosts", methods=["GET"])
    @authorised
    async def hosts(self, visit: Visit) -> bytes:
        """The hosts that sent anything."""
        parameters = Parameters.of(visit.request)
        project = parameters.text("project")
        parameters.done()
        return answer_json(visit.request, {"items": await self.questions.hosts(visit.projects(project))})

    @app.handle_errors(Exception)
    def failed(self, request: Any, failure: Failure) -> bytes:
        """Every error is JSON and says nothing of our insides."""
        return answer_problem(request, problem_of(request, failure))
