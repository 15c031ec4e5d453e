"""The demo: from nothing to the product running, with traffic to look at.

A collector, an agent and a PHP shop run as processes of their own, exactly as they would on a server; visitors are
threads of this one. Everything lies in one directory and ends with this process.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

import bitville_apm
from bitville_apm.demo import cron, recorded, traffic, trouble, unrest
from bitville_apm.demo.carrier import Carrier
from bitville_apm.demo.children import Child, Children
from bitville_apm.demo.interpreter import NoPhp, Php
from bitville_apm.demo.place import Place, default_state
from bitville_apm.demo.shop import Shop
from bitville_apm.demo.visits import Visit

WEB_PORT = 8443
HEALTH_PORT = 9191
SHOP_PORT = 8480
READY_S = 45.0
"""A busy two-core machine needs a few seconds to import Twisted twice."""
LOOK_S = 0.5


class Stopped(Exception):
    """Somebody pressed Ctrl-C, or sent SIGTERM."""


class DemoError(Exception):
    """The demo cannot run; the message says why."""


@attrs.define(eq=False)
class Demo:
    """One run."""

    place: Place
    children: Children
    stopping: threading.Event
    play_recorded: bool = False
    rate: float | None = None
    troubles: bool = True
    _carrier: Carrier = attrs.field(factory=Carrier, init=False)
    _unrest: unrest.Unrest | None = attrs.field(default=None, init=False)
    _nightly: cron.Cron | None = attrs.field(default=None, init=False)

    def run(self, port: int | None, seconds: float | None) -> None:
        """Start everything, stay, stop everything. Raises `ChildDied` and `DemoError`."""
        visitors: traffic.Traffic | recorded.Replay | None = None
        try:
            shop = self._find_shop()
            url, login = self._start_product(port, shop)
            visitors, what = self._visitors(shop)
            visitors.start()
            say(self._guide(url, login, what))
            self._stay(seconds)
        except Stopped:
            pass
        finally:
            say("\nstopping …")
            if self._unrest is not None:
                self._unrest.end()
            if visitors is not None:
                visitors.stop()
                say(f"  {_summary(visitors.counts)}")
            if self._nightly is not None:
                self._nightly.stop()
            self.children.stop()
            self._carrier.stop()
            self.place.clear_sockets()
            say(f"  stopped; the data stays in {self.place.state}")

    def _start_product(self, port: int | None, shop: Shop | None) -> tuple[str, str]:
        """Collector and agent. Returns the page's address and where to log in."""
        if self.children.leftovers():
            say("waiting for the processes of an earlier demo that was killed …")
            self.children.clear_leftovers()
        self.place.clear_sockets()
        web = free_port(port or WEB_PORT, 1 if port else 100)
        if not web:
            raise DemoError(f"port {port} is taken" if port else f"no port from {WEB_PORT} on is free")
        if port is None and web != WEB_PORT:
            say(f"port {WEB_PORT} is taken, the page will be on {web}")
        health = free_port(HEALTH_PORT)
        workers = shop.workers if shop is not None and shop.has_status else 0
        self.place.write_settings(web, health, workers)
        self._start("collector", "bitville-collector", self.place.collector_ini, web, "/ready")
        self._start("agent", "bitville-agent", self.place.agent_ini, health, "/health")
        return f"http://127.0.0.1:{web}/", self._login()

    def _start(self, name: str, service: str, ini: Path, port: int, path: str) -> None:
        say(f"starting the {name} …", end=" ")
        command = [sys.executable, _twistd(), "--nodaemon", "--pidfile=", service, "--config", str(ini)]
        child = self.children.start(name, command, product_environment(os.environ))
        self._wait(child, lambda: _answers(port, path))
        say(f"answers on port {port}")

    def _login(self) -> str:
        """A link that logs in as admin. The collector leaves one until somebody has logged in; then it is asked for."""
        if self.place.login_url.exists():
            return self.place.login_url.read_text().strip()
        command = [sys.executable, "-m", "bitville_apm.cli", "user", "link", "admin"]
        command += ["--config", str(self.place.collector_ini)]
        made = subprocess.run(
            command, capture_output=True, text=True, env=product_environment(os.environ), timeout=60, check=False
        )
        if made.returncode != 0 or not made.stdout.strip():
            return f"(no link could be made: {(made.stderr.strip() or 'no answer').splitlines()[-1]})"
        return made.stdout.strip().splitlines()[-1]

    def _find_shop(self) -> Shop | None:
        """The shop, if there is a PHP for it and nobody wants recorded traffic."""
        if self.play_recorded:
            return None
        try:
            return Shop(Php.find(), self.place.home, self.place.profiling_ini, free_port(SHOP_PORT))
        except NoPhp as error:
            say(f"no PHP for the shop: {error}; recorded traffic is played instead")
            return None

    def _visitors(self, shop: Shop | None) -> tuple[traffic.Traffic | recorded.Replay, str]:
        """Visitors of the shop, or recorded ones; and what to tell about them."""
        if shop is not None:
            return self._shop_visitors(shop)
        replay = recorded.Replay(str(self.place.socket), self.rate or recorded.RATE)
        return replay, f"traffic    {replay.rate:g} requests a second, recorded on a real blog"

    def _shop_visitors(self, found: Shop) -> tuple[traffic.Traffic, str]:
        say(f"starting the shop with {found.php.binary} …", end=" ")
        self._carrier.start()
        shop = attrs.evolve(found, carrier=self._carrier.url)
        shop.prepare()
        child = self.children.start("shop", shop.command(), shop.environment())
        self._wait(child, lambda: _serves(shop))
        trouble.mend(shop.data)
        say("answers")
        visitors = traffic.Traffic(shop.ask, self.rate or traffic.RATE)
        self._nightly = cron.Cron(shop.job(), shop.environment())
        scene = trouble.Scene(shop.data, visitors, self._carrier, shop.releases, os.cpu_count() or 1)
        asked = self.place.state / unrest.ASKED
        asked.unlink(missing_ok=True)
        self._unrest = unrest.Unrest(scene, asked, say, self.troubles, time.time())
        return visitors, self._about(visitors, shop.php)

    def _about(self, visitors: traffic.Traffic, php: Php) -> str:
        profiler = "Excimer" if php.has("excimer") else "without Excimer: requests and statements, no functions"
        by_itself = (
            f"after {unrest.FIRST_S / 60:g} minutes, and then every {unrest.EVERY_S / 60:g}, the shop gets into "
            "trouble for one:\n           load rises, and the product should say why"
            if self.troubles
            else "only what you ask for"
        )
        return (
            f"traffic    {visitors.rate:g} visits a second to a shop, PHP {php.version}, {profiler}\n\n"
            "look at    POST /checkout         the slow page: one statement without an index, one slow function\n"
            "           GET /orders/{id}       N+1: a query for every line of every order\n"
            "           GET /recommendations   burns CPU\n"
            f"troubles   {by_itself}\n"
            f"           to have one now: {_command()} demo{self._where()} --trouble NAME\n"
            f"           NAME one of {', '.join(self._names())}"
        )

    def _where(self) -> str:
        usual = self.place.state == default_state(os.environ)
        return "" if usual else f" --state {shlex.quote(str(self.place.state))}"

    def _names(self) -> list[str]:
        return [] if self._unrest is None else self._unrest.names

    def _wait(self, child: Child, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while not answers():
            child.check()
            self._pause(0.1)
            if time.monotonic() > deadline:
                raise DemoError(f"the {child.name} does not answer after {READY_S:g} s; see {child.log}")

    def _stay(self, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while deadline is None or time.monotonic() < deadline:
            self._pause(LOOK_S)
            self.children.check()
            if self._unrest is not None:
                self._unrest.tick(time.time())
            if self._nightly is not None:
                self._nightly.tick(time.monotonic())

    def _pause(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise Stopped

    def _guide(self, url: str, login: str, what: str) -> str:
        return (
            f"\nBitville APM is running.\n\npage       {url}\nlog in     {login}\n"
            f"           (works once; for another link: {_command()} user link admin --config "
            f"{self.place.collector_ini})\n"
            f"ask        {_command()} explain --config {self.place.collector_ini}\n"
            f"{what}\n\nlogs       {self.place.state}/logs\n\nCtrl-C stops everything."
        )


def _command() -> str:
    """How this command is called from here."""
    return os.path.relpath(Path(sys.executable).with_name("bitville"))


def say(text: str, end: str = "\n") -> None:
    """Print, also when nobody reads any more: a closed terminal must not keep processes from being stopped."""
    with contextlib.suppress(OSError):
        print(text, end=end, flush=True)


def _twistd() -> str:
    """The script of this interpreter's Twisted."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which("twistd", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise DemoError(f"there is no twistd beside {sys.executable} nor on the PATH; pip install bitville-apm")
    return found


def _serves(shop: Shop) -> bool:
    """Whether the shop serves its first page."""
    try:
        return shop.ask(Visit("GET", "/", 0))[0] == 200
    except OSError:
        return False


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def product_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What collector, agent and command line run with: settings come from the demo's files alone."""
    kept = {name: value for name, value in environment.items() if not name.startswith("BITVILLE_")}
    root = Path(bitville_apm.__file__).parent.parent
    if not root.name.endswith("-packages"):  # a copy of the source that is not installed
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def free_port(preferred: int, tries: int = 100) -> int:
    """The first port from `preferred` on that nobody has on the loopback address; 0 if there is none."""
    for port in range(preferred, preferred + tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 0


def _summary(counts: traffic.Counts) -> str:
    return f"{counts.answered} visits, {counts.failed} failed, {counts.left_out} left out because this machine was busy"
