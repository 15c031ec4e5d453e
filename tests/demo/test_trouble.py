"""Troubles: when the demo makes which, and that each really is what it says."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from bitville_apm.demo import trouble, unrest
from bitville_apm.demo.carrier import Carrier
from bitville_apm.demo.releases import Releases
from bitville_apm.demo.traffic import Traffic
from bitville_apm.demo.trouble import SECONDS, TROUBLES, Scene
from bitville_apm.demo.unrest import EVERY_S, FIRST_S, Unrest
from bitville_apm.demo.visits import Visit
from tests.tools import require


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A shop's directory with a database that has what troubles touch, and visitors who are always answered."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop2.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE review (product_id INTEGER, stars INTEGER)")
    trouble.mend(tmp_path)

    def ask(_visit: Visit) -> tuple[int, bytes]:
        time.sleep(0.002)
        return 200, b""

    return Scene(tmp_path, Traffic(ask, chance=random.Random(1)), Carrier(), None, 2)


def indexes(data: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(data / "shop2.sqlite")) as database:
        return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]


def switches(data: Path) -> dict[str, dict[str, object]]:
    file = data / trouble.SWITCHES
    return dict(json.loads(file.read_text())) if file.exists() else {}


@contextlib.contextmanager
def made(name: str, scene: Scene) -> Iterator[None]:
    with TROUBLES[name].make(scene, 2000.0):
        yield


@attrs.define(eq=False)
class Told:
    """What an Unrest says, and one to say it."""

    scene: Scene
    by_itself: bool = True
    lines: list[str] = attrs.field(factory=list)

    def unrest(self) -> Unrest:
        asked = self.scene.data / unrest.ASKED
        return Unrest(self.scene, asked, self.lines.append, self.by_itself, 1000.0)

    @property
    def names(self) -> list[str]:
        return [line.split(": ")[1] for line in self.lines]


def test_by_itself_one_after_six_minutes_and_then_every_ten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own troubles come in turn, one at a time, for a minute each; no deployment without php-fpm."""
    running: list[str] = []
    times: list[tuple[float, str, str]] = []
    now = [1000.0]

    def traced(name: str) -> trouble.Trouble:
        @contextlib.contextmanager
        def make(_scene: Scene, _until: float) -> Iterator[None]:
            assert not running
            running.append(name)
            times.append((now[0] - 1000, "begins", name))
            yield
            running.remove(name)
            times.append((now[0] - 1000, "ends", name))

        return trouble.Trouble(name, make)

    monkeypatch.setattr(unrest, "TROUBLES", {name: traced(name) for name in TROUBLES})
    told = Told(scene)
    moody = told.unrest()
    while now[0] < 1000 + FIRST_S + 11 * EVERY_S:
        moody.tick(now[0])
        now[0] += 0.5
    without_deploy = [name for name in TROUBLES if name != "deploy"]
    begun = [name for _, what, name in times if what == "begins"]
    assert begun == [*without_deploy, *without_deploy][:11]
    for n, (begins, ends) in enumerate(zip(times[::2], times[1::2], strict=True)):
        assert begins[0] == FIRST_S + n * EVERY_S
        assert ends[0] == begins[0] + SECONDS


def test_asked_for(scene: Scene) -> None:
    """What is asked for begins at once, in place of what was there; the demo says so; a quiet demo makes only that."""
    told = Told(scene, by_itself=False)
    moody = told.unrest()
    moody.tick(1000 + FIRST_S + 1)
    assert told.lines == []
    for name in ("n+1", "burner"):
        asking = threading.Thread(target=unrest.ask, args=(scene.data, name))
        asking.start()
        while asking.is_alive():
            moody.tick(2000.0)
            time.sleep(0.01)
        asking.join()
    assert told.names == ["n+1", "burner"]
    assert list(switches(scene.data)) == ["burner"]
    assert switches(scene.data)["burner"]["until"] == 2000 + SECONDS
    moody.tick(2000 + SECONDS)
    assert switches(scene.data) == {}


def test_nobody_there_to_make_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking a demo that makes no trouble says so after a while, and leaves nothing that a later one would do."""
    monkeypatch.setattr(unrest, "ASK_S", 0.2)
    assert not unrest.ask(scene.data, "lock")
    assert not (scene.data / unrest.ASKED).exists()


def test_what_cannot_be_made_is_said(scene: Scene) -> None:
    """A trouble that fails (here: no database) costs a line, not the demo."""
    (scene.data / "shop2.sqlite").unlink()
    (scene.data / "shop2.sqlite").mkdir()
    told = Told(scene, by_itself=False)
    (scene.data / unrest.ASKED).write_text("lock")
    moody = told.unrest()
    moody.tick(2000.0)
    assert "could not be made: unable to open database file" in told.lines[0]
    moody.tick(2000 + SECONDS)


def test_the_lock_keeps_writers_out(scene: Scene) -> None:
    """While it lasts nobody else can write, and everybody can read; then writing goes on."""
    with contextlib.closing(sqlite3.connect(scene.data / "shop2.sqlite", timeout=0.05)) as shop:
        with made("lock", scene):
            assert shop.execute("SELECT count(*) FROM review").fetchone() == (0,)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                shop.execute("INSERT INTO review VALUES (1, 1)")
        shop.execute("INSERT INTO review VALUES (1, 1)")


def test_the_index_is_gone_and_comes_back(scene: Scene) -> None:
    """The trouble takes the index away; its end, or the start of the demo after one that was killed, gives it back."""
    with made("index", scene):
        assert indexes(scene.data) == []
    assert indexes(scene.data) == ["review_product"]


def test_the_carrier_is_slow_meanwhile(scene: Scene) -> None:
    """The other host answers late while it lasts."""
    usual = scene.carrier.delay
    with made("carrier", scene):
        assert scene.carrier.delay == trouble.SLOW_CARRIER_S
    assert scene.carrier.delay == usual


@pytest.mark.parametrize("name", ["rush", "crawler"])
def test_crowds_come_and_go(scene: Scene, name: str) -> None:
    """A crowd is there while it lasts and gone after."""
    with made(name, scene):
        deadline = time.monotonic() + 10
        while scene.traffic.counts.answered < 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    answered = scene.traffic.counts.answered
    time.sleep(0.05)
    assert scene.traffic.counts.answered == answered


def test_the_job_beside_php(scene: Scene) -> None:
    """Processes of another program run while it lasts, and none after."""
    require("gzip", "timeout")

    def running() -> int:
        return sum(b"gzip\0-9\0--stdout\0/dev/zero" in line for line in _commands())

    before = running()
    with made("cron", scene):
        deadline = time.monotonic() + 10
        while running() < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while running() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _commands() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield entry.read_bytes()


def test_a_release_a_directory(scene: Scene, tmp_path: Path) -> None:
    """Deployments go to directories of their own behind one link; a trouble deploys one, and one that mends it."""
    releases = Releases(tmp_path)
    releases.start()
    assert releases.current.resolve() == tmp_path / "releases" / "r1"
    assert (releases.current / "src" / "Pages.php").is_file()
    with made("deploy", attrs.evolve(scene, releases=releases)):
        assert releases.current.resolve().name == "r2"
        assert switches(scene.data)["deploy"]["page"] == "GET /category/{slug}"
    assert releases.current.resolve().name == "r3"
    assert switches(scene.data) == {}
    again = Releases(tmp_path)
    again.start()
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["r1"]


def test_a_trouble_is_as_large_as_the_machine(scene: Scene) -> None:
    """What a spike needs grows with the cores: a page's visits cost what makes that much load at their usual rate."""
    small, large = scene, attrs.evolve(scene, cores=8)
    assert small.loads == 2.5
    assert large.loads == 6
    cost = small.cost_ms("product")
    share = 1 / sum(1 / rank for rank in range(1, 19))
    assert cost * scene.traffic.rate * share == pytest.approx(2500)
    assert cost < large.cost_ms("product") <= trouble.MOST_MS
