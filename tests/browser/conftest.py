"""One browser and one real collector for all tests of this folder, and a page that nothing foreign may reach."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from playwright.sync_api import sync_playwright

from bitville_apm.store.sqlite import Main
from tests.browser.records import frames, nights, records, spikes
from tests.collector.rig import Rig, item, running
from tests.tools import require

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, headless."""
    require("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield started
        started.close()


@pytest.fixture(scope="session")
def told_at() -> float:
    """The unix time at which everything in the collector was told: its records, frames and spikes are that old."""
    return time.time()


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory, told_at: float) -> Iterator[Rig]:
    """A collector that has the requests of `records`, what their hosts ran, a spike and a slow drift of each."""
    require("chromium")
    with running(tmp_path_factory.mktemp("collector")) as rig:
        by_project = records(told_at)
        for project, bodies in by_project.items():
            items = [item(body, n=n) for n, body in enumerate(bodies)]
            items += [
                item(body, k="frame", n=len(items) + n, host=host)
                for n, (host, body) in enumerate(frames(project, told_at))
            ]
            answer = rig.post(rig.key(project), *items)
            assert answer.json == {"success": True, "stored": len(items), "duplicate": 0, "rejected": []}
        main = Main.open(rig.data)
        for spike in spikes(told_at):
            main.keep_spike(spike)
        for night in nights(told_at):
            main.keep_drifts(night)
        main.close()
        yield rig


@attrs.define(eq=False, slots=False)
class Visitor:
    """A browser window, and everything in it that must not happen."""

    page: Any
    url: str
    wrong: list[str] = attrs.field(factory=list)

    def open(self, path: str) -> Any:
        """Go there; the answer's status is checked by the caller."""
        return self.page.goto(self.url + path)

    def watch(self) -> None:
        """Note console messages, script errors, refusals of the policy, and requests to anybody else."""
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._request)

    def _failed(self, request: Any) -> None:
        if "/static/favicon" in request.url and request.failure == "net::ERR_ABORTED":
            return  # the icon comes after the page: whoever is quick has left by then
        self.wrong.append(f"failed: {request.url}: {request.failure}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self.url + "/"):
            self.wrong.append(f"foreign: {request.url}")


@pytest.fixture(scope="session")
def state(browser: Any, collector: Rig) -> Any:
    """The cookie of somebody who used the link that the collector printed."""
    context = browser.new_context()
    page = context.new_page()
    page.goto((collector.data / "login.url").read_text().strip())
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(collector.url + "/")
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture
def visitor(request: pytest.FixtureRequest, browser: Any, collector: Rig, state: Any) -> Iterator[Visitor]:
    """A window of somebody logged in. Indirect parameters are options of the browser's context."""
    usual = {"viewport": {"width": 1280, "height": 900}, "timezone_id": "Asia/Kolkata"}
    options = {**usual, **getattr(request, "param", {})}
    context = browser.new_context(storage_state=state, **options)
    made = Visitor(context.new_page(), collector.url)
    made.watch()
    yield made
    made.page.wait_for_load_state()
    wrong = list(made.wrong)  # before closing, which cuts off whatever is still under way
    context.close()
    assert wrong == []
