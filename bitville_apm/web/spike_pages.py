"""What the pages of spikes answer: their list, one of them, and any window explained (spikes.md, VIZ-04).

Each also for programs, and a report also as a text for tickets and chats, under the same address with another ending.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.http import HttpProblem
from bitville_apm.store.interface import Projects, Spike
from bitville_apm.web.access import Visit
from bitville_apm.web.api import answer_json, answer_markdown
from bitville_apm.web.elements import Frame, page
from bitville_apm.web.explained import Explained, around, explain_body, explained_body
from bitville_apm.web.loads import Loads, step_of
from bitville_apm.web.parameters import Parameters
from bitville_apm.web.questions import Questions, report_json, spike_json
from bitville_apm.web.scope import Scope, spike_url
from bitville_apm.web.spikes import Spikes, spikes_body
from bitville_apm.web.static import Static

Framing = Callable[[Visit, str, Scope, str], Awaitable[Frame]]
"""Makes what is around a page: of a visit, a title, a scope and its place in the navigation."""


async def loads_between(questions: Questions, projects: Projects, start: float, end: float, host: str | None) -> Loads:
    """What hosts ran, in steps that a chart has room for."""
    step = step_of(end - start)
    return Loads.of(await questions.load(projects, start, end, step, host), start, end, step)


@attrs.frozen
class SpikePages:
    """See the module."""

    questions: Questions
    static: Static
    framed: Framing

    async def listed(self, visit: Visit) -> bytes:
        """The spikes of a range."""
        shown = await self._listed(visit)
        frame = await self.framed(visit, "Spikes", shown.scope, "spikes")
        frame = attrs.evolve(
            frame,
            json=shown.scope.url("/spikes.json", last=shown.scope.last),
            address=lambda there: there.url("/spikes", last=there.last),
        )
        return await page(visit.request, self.static, frame, spikes_body(shown, frame))

    async def listed_json(self, visit: Visit) -> bytes:
        """The same for programs."""
        shown = await self._listed(visit)
        return answer_json(visit.request, {"items": [spike_json(spike) for spike in shown.spikes]})

    async def _listed(self, visit: Visit) -> Spikes:
        parameters = Parameters.of(visit.request, forms=True)
        scope, now = Scope.of(parameters, "24h"), self.questions.now()
        parameters.done()
        projects = visit.projects(scope.project)
        start, end = scope.window(now)
        most = limits.SPIKES_LISTED
        found = await self.questions.spikes(projects, start or 0.0, end, scope.host, most + 1)
        return Spikes(scope, list(found)[:most], await self.questions.hosts(projects), now, len(found) > most)

    async def one(self, visit: Visit, id: str) -> bytes:
        """One spike: as a page, with `.json` for programs, with `.md` for people elsewhere."""
        Parameters.of(visit.request).done()
        name, _, ending = id.rpartition(".")
        if ending not in ("json", "md"):
            name, ending = id, ""
        spike, report = await self.questions.spike(visit.projects(None), name)
        if ending == "json":
            return answer_json(visit.request, report_json(spike, report))
        if ending == "md":
            return answer_markdown(visit.request, report)
        scope = Scope(project=spike.project)
        shown = await self._shown(visit.projects(spike.project), scope, report, spike)
        frame = await self.framed(visit, spike.verdict or "Spike", scope, "spikes")
        frame = attrs.evolve(
            frame,
            json=spike_url(spike.id, ".json"),
            markdown=spike_url(spike.id, ".md"),
            address=lambda there: Scope(project=there.project).url("/spikes"),
            charts=True,
        )
        return await page(visit.request, self.static, frame, explained_body(shown))

    async def explain(self, visit: Visit, ending: str = "") -> bytes:
        """A window picked by hand, explained; without one a form to pick it."""
        parameters = Parameters.of(visit.request, forms=True)
        given = parameters.given("from")
        scope, now = Scope.of(parameters), self.questions.now()
        parameters.done()
        projects = visit.projects(scope.project)
        if not given and not ending:
            latest = attrs.evolve(scope, last=None, start=now - limits.EXPLAIN_S, end=now)
            return await self._form(visit, latest, None)
        try:
            report = await self.questions.explain(projects, scope.start, scope.end, scope.host)
        except HttpProblem as problem:
            if ending or problem.status != 400:
                raise
            visit.request.setResponseCode(400)
            return await self._form(visit, scope.fixed(now), problem.message)
        if ending == ".json":
            return answer_json(visit.request, report)
        if ending == ".md":
            return answer_markdown(visit.request, report)
        fixed = scope.fixed(now)
        shown = await self._shown(projects, fixed, report, None)
        frame = await self.framed(visit, report.verdict, scope, "spikes")
        frame = attrs.evolve(
            frame,
            json=fixed.url("/explain.json"),
            markdown=fixed.url("/explain.md"),
            address=lambda there: there.url("/explain"),
            charts=True,
        )
        return await page(visit.request, self.static, frame, explained_body(shown))

    async def _form(self, visit: Visit, scope: Scope, problem: str | None) -> bytes:
        frame = await self.framed(visit, "Explain any time", scope, "spikes")
        frame = attrs.evolve(frame, address=lambda there: there.url("/explain"))
        hosts = await self.questions.hosts(visit.projects(scope.project))
        body = explain_body(scope, hosts, frame.projects, problem)
        return await page(visit.request, self.static, frame, body)

    async def _shown(self, projects: Projects, scope: Scope, report: Report, spike: Spike | None) -> Explained:
        shown = Explained(report, scope, spike)
        start, end = around(*shown.window)
        loads = await loads_between(self.questions, projects, start, min(end, self.questions.now()), scope.host)
        if spike is not None:  # only of the hosts it was seen on
            loads = attrs.evolve(loads, rows=[row for row in loads.rows if row.host in spike.hosts])
        return attrs.evolve(shown, loads=loads)
