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
from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Report
from bitville_apm.http import HttpProblem, answer_problem
from bitville_apm.store.interface import TooSlow
from bitville_apm.web import openapi
from bitville_apm.web.access import Access, Visit, authorised
from bitville_apm.web.exports import FORMATS, exported
from bitville_apm.web.parameters import REPORT_FORMATS, Parameters, ordered, search_of, wrong
from bitville_apm.web.questions import Questions, page_json, report_json, request_json, spike_json
from bitville_apm.web.ranges import Range, range_of
from bitville_apm.web.usual import difference

_log = Logger()


def answer_json(request: Request, value: Any) -> bytes:
    """A value as the body of an answer."""
    body = msgspec.json.encode(value) + b"\n"
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def answer_markdown(request: Request, report: Report) -> bytes:
    """A report as a text for tickets and chats."""
    body = markdown(report).encode()
    request.setHeader(b"Content-Type", b"text/markdown; charset=utf-8")
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
        """One record whole, with its functions and statements; or its profile for another tool (VIZ-01)."""
        parameters = Parameters.of(visit.request)
        form = parameters.choice("format", FORMATS)
        parameters.done()
        detail = await self.questions.detail(visit.projects(None), id)
        if form is None:
            return answer_json(visit.request, request_json(detail, await self.questions.seen(detail.found)))
        export = await self.questions.aside(exported, detail, form)
        visit.request.setHeader(b"Content-Type", export.content_type)
        visit.request.setHeader(b"Content-Disposition", f'attachment; filename="{export.name}"'.encode())
        return export.content

    @app.route("/top", methods=["GET"])
    @authorised
    async def top(self, visit: Visit) -> bytes:
        """The heaviest values of a dimension."""
        parameters = Parameters.of(visit.request)
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS))
        if dimension is None:
            raise wrong("dimension", f"missing; one of {', '.join(limits.DIMENSION_CAPS)}")
        host, project = parameters.text("host"), parameters.text("project")
        limit = parameters.whole("limit", 1, limits.TOP_LIMIT) or limits.SEARCH_DEFAULT
        range_, projects = self._range(parameters), visit.projects(project)
        top = await self.questions.top(projects, dimension, range_, host, limit)
        return answer_json(visit.request, await self.questions.top_json(projects, top, host))

    @app.route("/series", methods=["GET"])
    @authorised
    async def series(self, visit: Visit) -> bytes:
        """One value of a dimension minute by minute, with percentiles; without `name` all values together."""
        parameters = Parameters.of(visit.request)
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS)) or "endpoint"
        name, host, project = (parameters.text(field) for field in ("name", "host", "project"))
        range_ = self._range(parameters)
        points = await self.questions.series(visit.projects(project), dimension, name, range_, host)
        items = [{"at": point.at, **msgspec.structs.asdict(point.row)} for point in points]
        for item in items:
            del item["value"]
        told = {"dimension": dimension, "name": name, "from": range_.start, "to": range_.end, "step_s": range_.step_s}
        return answer_json(visit.request, {**told, "items": items})

    @app.route("/stats", methods=["GET"])
    @authorised
    async def stats(self, visit: Visit) -> bytes:
        """QUERY-05: how long the requests of an endpoint take, all of them; named by itself or by a URL it has."""
        parameters = Parameters.of(visit.request)
        url, endpoint, project = (parameters.text(field) for field in ("url", "endpoint", "project"))
        range_ = self._range(parameters, limits.STATS_S)
        if (url is None) == (endpoint is None):
            raise wrong("url", "either url or endpoint is wanted")
        projects = visit.projects(project)
        if endpoint is None:
            endpoint = await self.questions.endpoint_of(projects, url or "")
        usual = await self.questions.usual(projects, endpoint, range_)
        told = {"url": url, "endpoint": endpoint, "from": range_.start, "to": range_.end}
        return answer_json(visit.request, {**told, **usual.json()})

    @app.route("/statistics", methods=["GET"])
    @authorised
    async def statistics(self, visit: Visit) -> bytes:
        """QUERY-05: how much is stored."""
        parameters = Parameters.of(visit.request)
        project = parameters.text("project")
        parameters.done()
        return answer_json(visit.request, await self.questions.statistics(visit.projects(project)))

    @app.route("/compare", methods=["GET"])
    @authorised
    async def compare(self, visit: Visit) -> bytes:
        """QUERY-05: a request against what is usual for its endpoint, or the window `b` against the window `a`."""
        parameters = Parameters.of(visit.request)
        id = parameters.text("correlation_id")
        if id is not None:
            parameters.done()
            return answer_json(visit.request, await self.questions.compared(visit.projects(None), id))
        a, b = parameters.window("a"), parameters.window("b")
        if a is None or b is None:
            raise wrong("a" if a is None else "b", "missing; correlation_id, or two windows a=from,to and b=from,to")
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS)) or "endpoint"
        host, project = parameters.text("host"), parameters.text("project")
        limit = parameters.whole("limit", 1, limits.TOP_LIMIT) or limits.SEARCH_DEFAULT
        parameters.done()
        now, projects = self.questions.now(), visit.projects(project)
        tops = [
            await self.questions.top(projects, dimension, range_of(*window, now), host, limits.TOP_LIMIT)
            for window in (a, b)
        ]
        seconds = [await self.questions.known_s(projects, top.range, host) for top in tops]
        answer = {
            "dimension": dimension,
            **{name: [top.range.start, top.range.end] for name, top in zip("ab", tops, strict=True)},
            "items": difference(tops[0].rows, tops[1].rows, seconds[0], seconds[1])[:limit],
        }
        return answer_json(visit.request, answer)

    @app.route("/spikes", methods=["GET"])
    @authorised
    async def spikes(self, visit: Visit) -> bytes:
        """The spikes that lasted into a time, newest first; by default those of the last day."""
        parameters = Parameters.of(visit.request)
        start, end = parameters.moment("from"), parameters.moment("to")
        host, project = parameters.text("host"), parameters.text("project")
        limit = parameters.whole("limit", 1, limits.SEARCH_LIMIT) or limits.SEARCH_DEFAULT
        parameters.done()
        ordered("from", start, "to", end)
        if start is None:
            start = max(0.0, (self.questions.now() if end is None else end) - limits.SPIKES_LISTED_S)
        found = await self.questions.spikes(visit.projects(project), start, end, host, limit)
        return answer_json(visit.request, {"items": [spike_json(spike) for spike in found]})

    @app.route("/spikes/<id>", methods=["GET"])
    @authorised
    async def spike(self, visit: Visit, id: str) -> bytes:
        """One spike with its report, as JSON or as Markdown (VIZ-04)."""
        parameters = Parameters.of(visit.request)
        form = parameters.choice("format", REPORT_FORMATS)
        parameters.done()
        spike, report = await self.questions.spike(visit.projects(None), id)
        if form == "md":
            return answer_markdown(visit.request, report)
        return answer_json(visit.request, report_json(spike, report))

    @app.route("/regressions", methods=["GET"])
    @authorised
    async def regressions(self, visit: Visit) -> bytes:
        """What costs more a call than it did, as the last nights found it (ADV-02)."""
        parameters = Parameters.of(visit.request)
        project = parameters.text("project")
        limit = parameters.whole("limit", 1, limits.TOP_LIMIT) or limits.SEARCH_DEFAULT
        parameters.done()
        drifted = await self.questions.drifts(visit.projects(project), limit)
        return answer_json(visit.request, drifted.json())

    @app.route("/explain", methods=["GET"])
    @authorised
    async def explain(self, visit: Visit) -> bytes:
        """Any window of one project explained against the hour before it."""
        parameters = Parameters.of(visit.request)
        start, end = parameters.moment("from"), parameters.moment("to")
        host, project = parameters.text("host"), parameters.text("project")
        form = parameters.choice("format", REPORT_FORMATS)
        parameters.done()
        ordered("from", start, "to", end)
        report = await self.questions.explain(visit.projects(project), start, end, host)
        return answer_markdown(visit.request, report) if form == "md" else answer_json(visit.request, report)

    @app.route("/correlation/<id>", methods=["GET"])
    @authorised
    async def correlation(self, visit: Visit, id: str) -> bytes:
        """QUERY-05, LIST-05: a request, its statements, and what its database was seen doing."""
        Parameters.of(visit.request).done()
        return answer_json(visit.request, await self.questions.correlation(visit.projects(None), id))

    @app.route("/openapi.json", methods=["GET"])
    def openapi(self, request: Request) -> bytes:
        """What all of this takes and answers; the same for everybody."""
        request.setHeader(b"Content-Type", b"application/json")
        return openapi.document()

    def _range(self, parameters: Parameters, default_s: float = 3600.0) -> Range:
        """`from` and `to` as a range, by default the last hour; all other parameters are taken by now."""
        start, end = parameters.moment("from"), parameters.moment("to")
        parameters.done()
        ordered("from", start, "to", end)
        return range_of(start, end, self.questions.now(), default_s)

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
