"""The pages. Each is also there for programs, under the same address with `.json`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ClassVar

import attrs
import msgspec
from klein import Klein
from twisted.python.failure import Failure
from twisted.web.server import Request

from bitville_apm import limits
from bitville_apm.http import HttpProblem, answer_problem
from bitville_apm.store.interface import Page
from bitville_apm.web import flames, words
from bitville_apm.web.access import Access, Visit, authorised
from bitville_apm.web.api import answer_json, problem_of
from bitville_apm.web.dimensions import DIMENSIONS
from bitville_apm.web.drifted import Drifted
from bitville_apm.web.elements import Frame, Reader, page
from bitville_apm.web.flames import flame_of
from bitville_apm.web.lists import Head, Requests, requests_body
from bitville_apm.web.loads import Loads, step_of
from bitville_apm.web.login import problem_page, redirect
from bitville_apm.web.one import request_body
from bitville_apm.web.parameters import Parameters, search_of, wrong
from bitville_apm.web.questions import Questions, Top, page_json, request_json, spike_json, together
from bitville_apm.web.regressions import Regressed, regressions_body
from bitville_apm.web.scope import Scope, request_url
from bitville_apm.web.spike_pages import SpikePages, loads_between
from bitville_apm.web.static import Static
from bitville_apm.web.tops import top_body
from bitville_apm.web.trends import Trend, trend_body


@attrs.define(eq=False, slots=False)
class Pages:
    """The routes of the pages."""

    access: Access
    questions: Questions
    static: Static
    app: ClassVar[Klein] = Klein()
    _spikes: SpikePages = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._spikes = SpikePages(self.questions, self.static, self._frame)

    @app.route("/", methods=["GET"])
    @authorised
    async def requests(self, visit: Visit) -> bytes:
        """The slowest requests, and where the time went."""
        shown = await self._requests(visit)
        frame = await self._frame(visit, "Requests", shown.scope, "requests")
        frame = attrs.evolve(
            frame,
            json=shown.url(path="/index.json", after=shown.search.after),
            address=shown.url,
            charts=shown.head is not None,
        )
        return await page(visit.request, self.static, frame, requests_body(shown, frame))

    @app.route("/index.json", methods=["GET"])
    @authorised
    async def requests_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        shown = await self._requests(visit)
        endpoints = shown.endpoints.json() if shown.endpoints is not None else None
        head = shown.head
        spikes = None if head is None else [spike_json(spike) for spike in head.spikes]
        load = None if head is None else head.loads.json()
        answer = {**page_json(shown.page), "endpoints": endpoints, "spikes": spikes, "load": load}
        return answer_json(visit.request, answer)

    @app.route("/top", methods=["GET"])
    @authorised
    async def top(self, visit: Visit) -> bytes:
        """The heaviest values of a dimension."""
        scope, top, limit = await self._top(visit)
        frame = await self._frame(visit, DIMENSIONS[top.dimension], scope, top.dimension)
        frame = attrs.evolve(
            frame,
            json=scope.url("/top.json", dimension=top.dimension, limit=limit),
            address=lambda there: there.url("/top", dimension=top.dimension, limit=limit),
        )
        watched = bool(top.rows) or await self.questions.watches_database(visit.projects(scope.project))
        return await page(visit.request, self.static, frame, top_body(top, frame, self.questions.now(), watched))

    @app.route("/top.json", methods=["GET"])
    @authorised
    async def top_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        scope, top, _ = await self._top(visit)
        projects = visit.projects(scope.project)
        return answer_json(visit.request, await self.questions.top_json(projects, top, scope.host))

    @app.route("/trend", methods=["GET"])
    @authorised
    async def trend(self, visit: Visit) -> bytes:
        """One value of a dimension over time."""
        scope, trend = await self._trend(visit)
        named = {"dimension": trend.dimension, "name": trend.value}
        frame = await self._frame(visit, words.cut(trend.value, 100), scope, trend.dimension)
        frame = attrs.evolve(
            frame,
            json=scope.url("/trend.json", **named),
            address=lambda there: there.url("/trend", **named),
            charts=bool(trend.points),
        )
        return await page(visit.request, self.static, frame, trend_body(trend, frame, self.questions.now()))

    @app.route("/trend.json", methods=["GET"])
    @authorised
    async def trend_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        _, trend = await self._trend(visit)
        return answer_json(visit.request, trend.json())

    @app.route("/spikes", methods=["GET"])
    @authorised
    async def spikes(self, visit: Visit) -> bytes:
        """The spikes of a range."""
        return await self._spikes.listed(visit)

    @app.route("/spikes.json", methods=["GET"])
    @authorised
    async def spikes_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        return await self._spikes.listed_json(visit)

    @app.route("/spikes/<id>", methods=["GET"])
    @authorised
    async def spike(self, visit: Visit, id: str) -> bytes:
        """One spike."""
        return await self._spikes.one(visit, id)

    @app.route("/regressions", methods=["GET"])
    @authorised
    async def regressions(self, visit: Visit) -> bytes:
        """What costs more a call than it did."""
        scope, drifted = await self._regressions(visit)
        frame = await self._frame(visit, "Slow drifts", scope, "spikes")
        frame = attrs.evolve(
            frame,
            json=scope.url("/regressions.json"),
            address=lambda there: Scope(project=there.project).url("/regressions"),
        )
        body = regressions_body(Regressed(drifted, scope, frame.projects))
        return await page(visit.request, self.static, frame, body)

    @app.route("/regressions.json", methods=["GET"])
    @authorised
    async def regressions_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        _, drifted = await self._regressions(visit)
        return answer_json(visit.request, drifted.json())

    @app.route("/explain", methods=["GET"])
    @authorised
    async def explain(self, visit: Visit) -> bytes:
        """Any window explained."""
        return await self._spikes.explain(visit)

    @app.route("/explain<ending>", methods=["GET"])
    @authorised
    async def explain_text(self, visit: Visit, ending: str) -> bytes:
        """The same for programs, or as Markdown."""
        if ending not in (".json", ".md"):
            raise HttpProblem(404, f"no route /explain{ending[: limits.PARAMETER_CHARACTERS]}")
        return await self._spikes.explain(visit, ending)

    @app.route("/requests/<id>", methods=["GET"])
    @authorised
    async def one(self, visit: Visit, id: str) -> bytes:
        """One request whole, as a page or, with `.json`, for programs; `flame` is the frame that its graph shows."""
        parameters = Parameters.of(visit.request)
        at = parameters.text("flame")
        parameters.done()
        detail = await self.questions.detail(visit.projects(None), id.removesuffix(".json"))
        found = detail.found
        if id.endswith(".json"):
            return answer_json(visit.request, request_json(detail, await self.questions.seen(found)))
        title = f"{words.milliseconds(found.duration_ms)} {found.endpoint}"
        frame = await self._frame(visit, title, Scope(), "requests")
        frame = attrs.evolve(frame, json=request_url(found.id, ".json"))
        graph = await self.questions.aside(flame_of, detail, _flame_path(at))
        seen = await self.questions.seen(found)
        return await page(visit.request, self.static, frame, request_body(detail, graph, seen))

    @app.route("/logout", methods=["POST"])
    async def log_out(self, request: Request) -> bytes:
        """Forget the session."""
        _, session = await self.access.person(request)
        self.access.check_form(request, session)
        if session is not None:
            await self.access.auth.log_out(session)
        self.access.drop_cookie(request)
        return redirect(request, "/login")

    @app.route("/favicon.ico", methods=["GET"])
    def icon(self, request: Request) -> bytes:
        """For browsers that look at JSON."""
        return redirect(request, self.static.address("favicon.svg"))

    @app.handle_errors(Exception)
    async def failed(self, request: Any, failure: Failure) -> bytes:
        """Strangers go to the log-in; an error is a page, or JSON where JSON was asked for."""
        if request.path.endswith(b".json"):
            return answer_problem(request, problem_of(request, failure))
        if isinstance(failure.value, HttpProblem) and failure.value.status == 401:
            return redirect(request, "/login")
        frame = Frame("Error")
        try:
            caller, session = await self.access.person(request)
        except Exception:  # noqa: BLE001 - the page must come even where the store does not answer
            caller = None
        if caller is not None:
            frame = attrs.evolve(frame, reader=Reader(caller.name, self.access.form_token(session)))
        return await problem_page(request, self.static, failure, frame)

    async def _frame(self, visit: Visit, title: str, scope: Scope, here: str) -> Frame:
        reader = Reader(visit.caller.name, self.access.form_token(visit.session))
        return Frame(title, reader, scope, await self.questions.projects(visit.projects(None)), here)

    async def _requests(self, visit: Visit) -> Requests:
        parameters = Parameters.of(visit.request, forms=True)
        scope, now = Scope.of(parameters), self.questions.now()
        for name in ("timestamp_start", "timestamp_end", "source"):
            if parameters.text(name) is not None:
                raise wrong(name, "unknown parameter; a page has from and to, and shows requests only")
        _, search = search_of(parameters)
        projects = visit.projects(scope.project)
        start, end = scope.window(now) if search.correlation_id is None else (None, None)
        search = msgspec.structs.replace(
            search, source="php_agent", host=scope.host, timestamp_start=start, timestamp_end=end
        )
        asking: list[Coroutine[Any, Any, Any]] = [self.questions.search(projects, search)]
        asking.append(self.questions.hosts(projects))
        shown = Requests(scope, search, Page(items=[], cursor=None), None, (), now)
        if not shown.filtered and search.after is None:
            range_ = scope.range(now)
            first, last = scope.fixed(now).window(now)
            begin, end = first or range_.start, last or now
            drawn = Loads.of((), begin, end, step_of(end - begin)).time.start  # whole steps: it may be a little sooner
            asking += [
                self.questions.top(projects, "endpoint", range_, scope.host, limits.ENDPOINTS_SHOWN),
                loads_between(self.questions, projects, begin, end, scope.host),
                self.questions.spikes(projects, drawn, last, scope.host, limits.SPIKES_LISTED),
            ]
        found, hosts, *above = await together(asking)
        shown = attrs.evolve(shown, page=found, hosts=hosts)
        if not above:
            return shown
        top, loads, spikes = above
        return attrs.evolve(shown, endpoints=top, head=Head(loads, list(spikes)))

    async def _top(self, visit: Visit) -> tuple[Scope, Top, int | None]:
        parameters = Parameters.of(visit.request, forms=True)
        scope = Scope.of(parameters)
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS)) or "endpoint"
        limit = parameters.whole("limit", 1, limits.TOP_LIMIT)
        parameters.done()
        top = await self.questions.top(
            visit.projects(scope.project),
            dimension,
            scope.range(self.questions.now()),
            scope.host,
            limit or limits.SEARCH_DEFAULT,
        )
        return scope, top, limit

    async def _regressions(self, visit: Visit) -> tuple[Scope, Drifted]:
        parameters = Parameters.of(visit.request, forms=True)
        scope = Scope(project=parameters.text("project"))
        parameters.done()
        return scope, await self.questions.drifts(visit.projects(scope.project), limits.SPIKES_LISTED)

    async def _trend(self, visit: Visit) -> tuple[Scope, Trend]:
        parameters = Parameters.of(visit.request, forms=True)
        scope = Scope.of(parameters)
        dimension = parameters.choice("dimension", list(limits.DIMENSION_CAPS)) or "endpoint"
        name = parameters.text("name")
        parameters.done()
        if name is None:
            raise wrong("name", "missing; a value of the dimension")
        range_ = scope.range(self.questions.now())
        projects = visit.projects(scope.project)
        points = await self.questions.series(projects, dimension, name, range_, scope.host)
        known_s = await self.questions.known_s(projects, range_, scope.host)
        return scope, Trend(dimension, name, range_, points, known_s)


def _flame_path(text: str | None) -> list[int]:
    try:
        return flames.path_of(text) if text else []
    except ValueError:
        raise wrong("flame", "no frame of this graph") from None
