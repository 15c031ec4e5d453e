"""Spikes found by a real collector in the frames it is sent: kept, gone on with, made again, told to their own."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.collector.rig import Rig, item, running
from tests.collector.spiking import BUSY, QUIET_S, WORKER, frame, rising
from tests.store.make import end_body, new_id

WAIT_S = 30.0


@attrs.define
class Watched:
    """A collector, and an agent's keys in it."""

    rig: Rig
    keys: dict[str, str] = attrs.field(factory=dict)
    sent: int = 0

    def key(self, project: str) -> str:
        if project not in self.keys:
            self.keys[project] = self.rig.key(project, "ingest,read")
        return self.keys[project]

    def send(self, project: str, *bodies: dict[str, Any], host: str = "web1", k: str = "frame", **more: Any) -> None:
        """Send records as an agent would, each once."""
        items = [item(body, k=k, n=self.sent + n, host=host, **more) for n, body in enumerate(bodies, 1)]
        self.sent += len(items)
        assert self.rig.post(self.key(project), *items).json["stored"] == len(items)

    def spikes(self, project: str, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.rig.ask("GET", f"/api/spikes?{query}", key=self.key(project)).json["items"]
        return found

    def until(self, project: str, right: Callable[[list[dict[str, Any]]], bool], query: str = "") -> list[Any]:
        """Wait until the project's spikes are as wanted."""
        until = time.monotonic() + WAIT_S
        while not right(found := self.spikes(project, query)):
            assert time.monotonic() < until, (found, self.rig.log)
            time.sleep(0.05)
        return found

    def until_told(self, told: int) -> None:
        """Wait until it is noted that people were told of the one spike there is."""
        until = time.monotonic() + WAIT_S
        question = "SELECT told FROM spike"
        with contextlib.closing(sqlite3.connect(self.rig.data / "main.db")) as main:
            while main.execute(question).fetchall() != [(told,)]:
                assert time.monotonic() < until, self.rig.log
                time.sleep(0.05)

    def report(self, project: str, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.ask("GET", f"/api/spikes/{id}", key=self.key(project)).json
        return found


def now() -> float:
    """The window that runs now."""
    return time.time() // 10 * 10


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with running(tmp_path_factory.mktemp("collector")) as rig:
        yield Watched(rig)


def test_a_spike_from_its_frames_to_the_api(watched: Watched) -> None:
    """ADV-05, spikes.md: frames of a spike that goes on are explained within seconds: who, how, which requests to look
    at; at its end the spike is closed, and who asks for another project sees nothing of it.
    """
    onset = now() - 50
    slow = end_body(new_id(), onset + 5, 4000.0, request={"method": "GET", "uri": "/search?q=1", "route": BUSY})
    watched.send("shop", slow, k="end", framed=True)
    watched.send("shop", *rising(onset - QUIET_S, onset + 50, onset, onset + 1000))
    (spike,) = watched.until("shop", lambda found: len(found) == 1)
    assert (spike["hosts"], spike["end"], spike["kind"], spike["measure"]) == (["web1"], None, "load", "tasks")
    assert onset - 2 <= spike["onset"] <= spike["opened"] <= onset + 5
    report = watched.report("shop", spike["id"])
    assert (report["causes"][0]["value"], report["causes"][0]["mechanism"]) == (BUSY, "traffic")
    assert [(one["why"], one["id"]) for one in report["examples"]] == [("slowest", slow["id"])]
    assert report["level"] > 15
    # It ends: three quiet windows later the report has an end. Their time is yet to come; the collector takes an hour.
    watched.send("shop", *rising(onset + 50, onset + 110, onset, onset + 60))
    (over,) = watched.until("shop", lambda found: bool(found) and found[0]["end"] is not None)
    assert over["id"] == spike["id"]
    assert over["revision"] > spike["revision"]
    assert onset + 55 <= over["end"] <= onset + 75
    assert watched.spikes("blog") == []
    assert watched.rig.ask("GET", f"/api/spikes/{spike['id']}", key=watched.key("blog")).status == 404
    text = watched.rig.ask("GET", f"/api/spikes/{spike['id']}?format=md", key=watched.key("shop")).body.decode()
    assert BUSY in text.splitlines()[0]
    ready = watched.rig.ask("GET", "/ready").json["spikes"]
    assert ready["opened"] >= 1
    assert ready["left_out"] == 0


def test_hosts_projects_and_late_frames(watched: Watched) -> None:
    """spikes.md: two hosts that rise together are one spike; another project on one of them has its own, with its own
    values only; functions that arrive late are in a later revision, and a spike long over is final.
    """
    onset = now() - 3600.0
    frames = list(rising(onset - QUIET_S, onset + 120, onset, onset + 60, name="late"))
    watched.send("wiki", *frames)
    watched.send("wiki", *rising(onset - QUIET_S, onset + 120, onset + 20, onset + 60, name="db"), host="db1")
    other = [
        {**body, "id": new_id(), "cells": {"endpoint": {"values": ["GET /feed"], "columns": {"cpu_us": [1000]}}}}
        for body in frames
    ]
    watched.send("feed", *other)
    query = f"from={onset}&to={onset + 100}"
    settled = lambda found: [(f["hosts"], f["provisional"]) for f in found]  # noqa: E731
    (spike,) = watched.until("wiki", lambda found: settled(found) == [(["db1", "web1"], False)], query)
    report = watched.report("wiki", spike["id"])
    assert {split["host"] for split in report["split"]} == {"db1", "web1"}
    (own,) = watched.until("feed", lambda found: settled(found) == [(["web1"], False)], query)
    assert own["id"] != spike["id"]
    told = watched.rig.ask("GET", f"/api/spikes/{own['id']}", key=watched.key("feed")).body.decode()
    assert BUSY not in told
    assert WORKER not in str(report)
    watched.send("wiki", *(frame(onset + n, 15.0, late=True) for n in range(0, 60, 10)))
    (again,) = watched.until("wiki", lambda found: found[0]["revision"] > spike["revision"], query)
    assert (again["id"], again["provisional"]) == (spike["id"], False)
    assert WORKER in str(watched.report("wiki", spike["id"])["causes"])


def test_a_restart_in_the_middle(tmp_path: Path) -> None:
    """design 7, ADV-05: killed while a spike lasts, the collector goes on with it: one id, a revision more, and its
    end; one alert of its beginning and one of its end.
    """
    told = tmp_path / "told"
    command = f"/bin/sh -c 'printenv BITVILLE_EVENT BITVILLE_LINK >> {told}'"
    alerts = f"[alerts]\nbase_url = https://apm.example/apm\ncommand = {command}\n"
    with running(tmp_path, extra=alerts) as rig:
        watched = Watched(rig)
        onset = now() - 60
        watched.send("shop", *rising(onset - QUIET_S, onset + 40, onset, onset + 1000))
        (before,) = watched.until("shop", lambda found: len(found) == 1)
        watched.until_told(1)
        rig.kill()
        rig.start()
        (after,) = watched.until("shop", lambda found: found[0]["revision"] > before["revision"])
        assert (after["id"], after["end"]) == (before["id"], None)
        watched.send("shop", *rising(onset + 40, onset + 90, onset, onset + 50))
        (over,) = watched.until("shop", lambda found: found[0]["end"] is not None)
        assert over["id"] == before["id"]
        link = f"https://apm.example/apm/spikes/{before['id']}"
        until = time.monotonic() + WAIT_S
        while told.read_text().split() != ["open", link, "over", link] and time.monotonic() < until:
            time.sleep(0.05)
        assert told.read_text().split() == ["open", link, "over", link]
        # What the command writes is there before the command has ended.
        watched.until_told(2)
        assert rig.ask("GET", "/ready").json["alerts"]["ways"]["command"]["sent"] == 1
        assert b'bitville_collector_alerts_total{outcome="sent",way="command"} 1.0' in rig.ask("GET", "/metrics").body
        assert "Traceback" not in rig.log


@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_killed_between_keeping_and_telling(tmp_path: Path, name: str) -> None:
    """ADV-05: killed, or stopped, after a spike was kept and before anybody was told of it, the collector tells it
    after its next start; once it is told, no later start tells it again.
    """
    told = tmp_path / "told"
    script = tmp_path / "tell"
    die_once = f"mkdir {tmp_path}/once && kill -{name} $PPID && exit 1"
    script.write_text(f"#!/bin/sh\n{die_once}\nprintenv BITVILLE_EVENT BITVILLE_SPIKE >> {told}\n")
    script.chmod(0o755)
    with running(tmp_path, extra=f"[alerts]\ncommand = {script}\n") as rig:
        watched = Watched(rig)
        onset = now() - 60
        watched.send("shop", *rising(onset - QUIET_S, onset + 60, onset, onset + 1000))
        assert rig.process is not None
        rig.process.wait(WAIT_S)
        assert not told.exists()
        rig.start()
        watched.until_told(1)
        (spike,) = watched.spikes("shop")
        assert told.read_text().split() == ["open", spike["id"]]
        rig.kill()
        rig.start()
        watched.until("shop", lambda found: found[0]["revision"] > spike["revision"])
        assert told.read_text().split() == ["open", spike["id"]]
        assert "Traceback" not in rig.log


def test_a_window_picked_by_hand(watched: Watched) -> None:
    """spikes.md: any window is explained, of one project and of one host; what nobody sent anything of is said."""
    at = now() - 7200.0
    watched.send("hand", *rising(at - QUIET_S, at + 60, at, at + 60, name="hand"), host="web7")
    asked = f"/api/explain?from={at}&to={at + 60}"
    report = watched.rig.ask("GET", asked, key=watched.key("hand")).json
    assert (report["causes"][0]["value"], report["kind"], report["end"]) == (BUSY, "load", at + 60)
    assert watched.rig.ask("GET", f"{asked}&host=web8", key=watched.key("hand")).json["kind"] == "none"
    empty = watched.rig.ask("GET", f"/api/explain?from={at - 7000}&to={at - 6000}", key=watched.key("hand"))
    assert empty.json["verdict"] == "No agent sent anything of this time"
