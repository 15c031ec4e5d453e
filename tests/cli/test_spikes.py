"""`bitville spikes`, `explain` and `top` with a real collector: as its own user, by a key, and with nobody there."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Report
from bitville_apm.cli import asking, terminal, times
from bitville_apm.cli.errors import NotDone
from bitville_apm.store.interface import Spike
from bitville_apm.store.sqlite import Main
from tests.agent.certificate import certified
from tests.cli.conftest import Run
from tests.collector.rig import Rig, free_port, item, running
from tests.collector.spiking import BUSY, frame
from tests.web.reports import full_report, kept_spike

WIDTH = 100
"""Of the terminal that commands believe in."""
NOW = time.time()
IDS = ("aaaa1111-0000-4000-8000-000000000000", "aaaa1112-0000-4000-8000-000000000000",
       "bbbb0000-0000-4000-8000-000000000000")  # fmt: skip


def spike(id: str, ago: float, project: str = "shop", **more: Any) -> Spike:
    at = NOW - ago
    return kept_spike(id, project, onset=at, opened=at + 7, peak=at + 30, **{"end": at + 180, **more})


KEPT = (spike(IDS[0], 600), spike(IDS[1], 3600, end=None), spike(IDS[2], 30 * 86_400, "blog"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector with three spikes of two projects, and a window of frames."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        keyring = Main.open(rig.data)
        for one in KEPT:
            keyring.keep_spike(one)
        keyring.close()
        assert rig.post(rig.key("shop"), item(frame(NOW - 60), k="frame")).json["stored"] == 1
        yield rig


def test_spikes(run: Run) -> None:
    """ADV-05: on the collector's machine, without a key, the list has every project's spikes of a week, each with its
    verdict, and ids as long as tells them apart.
    """
    code, out, err = run("spikes")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["BEGAN", "(UTC)", "LASTED", "LOAD", "HOSTS", "PROJECT", "ID"]
    assert lines[1].split()[-3:] == ["web1,web2", "shop", "aaaa1111"]
    assert "3 m 00 s" in lines[1]
    assert lines[2] == "    GET /search: 3 times the requests, on web1 and web2 <b>"
    assert "lasts" in lines[3]
    assert len(lines) == 5
    assert all(len(line) <= 100 for line in lines)
    assert "blog" in run("spikes", "--from", "40d")[1]
    assert json.loads(run("spikes", "--json", "--limit", "1")[1])["items"][0]["id"] == IDS[0]
    assert "no spike from" in run("spikes", "--from", "20d", "--to", "10d")[1]
    assert "no spike from" in run("spikes", "--host", "db9")[1]


def test_no_session_remains(run: Run, rig: Rig) -> None:
    """LIST-09: the session that a command opens for itself ends with it, also when it fails."""
    run("spikes")
    run("explain", "nothing")
    keyring = Main.open(rig.data)
    (count,) = keyring._db.execute("SELECT count(*) FROM session").fetchone()
    keyring.close()
    assert count == 0


def test_explain(run: Run, rig: Rig) -> None:
    """VIZ-04: the last spike, or one by the beginning of its id: for a terminal, as JSON, as Markdown."""
    code, out, _ = run("explain")
    assert code == 0
    report = msgspec.json.decode(KEPT[0].report, type=Report)
    assert out.splitlines() == [*terminal.told(report, 100, f"{rig.url}/spikes/{IDS[0]}")]
    assert run("explain", "last") == (0, out, "")
    assert run("explain", "AAAA1111") == (0, out, "")
    assert run("explain", IDS[0], "--md")[1] == markdown(report)
    told = json.loads(run("explain", IDS[0], "--json")[1])
    assert (told["id"], told["causes"][0]["mechanism"]) == (IDS[0], "traffic")
    assert json.loads(run("explain", "--project", "blog", "--json")[1])["id"] == IDS[2]
    assert run("explain", "aaaa")[2] == "bitville: 2 spikes begin with aaaa; give more of the id\n"
    code, _, err = run("explain", "cccc")
    assert (code, "404: no spike cccc" in err) == (1, True)
    assert run("explain", "--host", "db9")[0] == 1


def test_explain_a_time(run: Run) -> None:
    """spikes.md: any time is explained; what cannot be is said in one line."""
    code, out, _ = run("explain", "--from", "90m", "--to", "1s")  # the frame is older the slower the tests are
    assert code == 0
    assert out.startswith("Nothing rose")
    assert run("explain", "--from", "90m", "--json")[0] == 0
    for arguments, code, why in (
        (("last", "--from", "5m"), 2, "either a spike or --from"), (("--to", "5m"), 2, "without --from"),
        (("--from", "5h"), 1, "more than 2 h"), (("--from", "1s"), 1, "less than 10 s"),
        (("--from", "yesterday"), 1, "is no time"), (("--from", "5m", "--to", "6m"), 1, "not after --from"),
    ):  # fmt: skip
        found = run("explain", *arguments)
        assert (found[0], why in found[2]) == (code, True), found


def test_top(run: Run) -> None:
    """QUERY-01: what was heaviest in a time: of endpoints, functions, statements and processes, or of one dimension."""
    code, out, _ = run("top")
    assert code == 0
    lines = out.splitlines()
    assert lines[2].split() == ["LOAD", "BLOCKED", "REQUESTS", "P95", "ERRORS", "ENDPOINT"]
    assert lines[3].split()[-2:] == ["GET", "/cart"]
    assert lines[3].split()[2] == "50"
    assert "STATEMENT" not in out
    told = json.loads(run("top", "--dimension", "endpoint", "--json")[1])
    assert {row["value"] for row in told["items"]} == {"GET /cart", BUSY}
    assert set(json.loads(run("top", "--json")[1])) == {"endpoint", "function", "statement", "process"}
    assert "nothing was seen" in run("top", "--from", "9d", "--to", "8d")[1]
    assert "widened to whole hours" in run("top", "--from", "1d")[1]
    assert run("top", "--limit", "900")[0] == 1


def test_by_a_key(run: Run, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIST-03: from anywhere with a read key, which sees its project only; given by option, environment or file."""
    key = rig.key("blog", "read")
    Path("key").write_text(key + "\n")
    here = ("--url", rig.url, "--from", "40d", "--json")
    wanted = [IDS[2]]

    def ids(*arguments: str) -> list[str]:
        return [one["id"] for one in json.loads(run("spikes", *here, *arguments)[1])["items"]]

    assert ids("--key", key) == wanted
    assert ids("--key-file", "key") == wanted
    monkeypatch.setenv("BITVILLE_KEY", key)
    assert ids() == wanted
    monkeypatch.delenv("BITVILLE_KEY")
    monkeypatch.setenv("BITVILLE_KEY_FILE", "key")
    monkeypatch.setenv("BITVILLE_URL", rig.url)
    assert json.loads(run("explain", IDS[2], "--json")[1])["project"] == "blog"
    assert run("explain", IDS[0])[0] == 1


def test_what_is_not_there_is_said(run: Run, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input gets one line that says what to do, and an exit code that is not 0."""
    for arguments, why in (
        (("--url", rig.url), "wants to know who asks"), (("--key", "bv_x_y"), "401: Invalid API key"),
        (("--key", rig.key("shop")), "403"), (("--key-file", "nowhere"), "cannot be read"),
        (("--url", f"http://127.0.0.1:{free_port()}", "--key", "k"), "no collector answers"),
        (("--config", str(tmp_path / "none.ini")), "cannot be read"),
        (("--project", "none", "--key", rig.key("shop", "read")), "may not see project none"),
    ):  # fmt: skip
        code, out, err = run("spikes", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert why in err
    empty = tmp_path / "collector.ini"
    empty.write_text(f"[collector]\ndata = {tmp_path}\n")
    empty.chmod(0o640)
    assert "ask from anywhere with --url and --key-file" in run("spikes", "--config", str(empty))[2]
    monkeypatch.setenv("BITVILLE_URL", "http://apm.example")
    assert "plain http" in run("spikes", "--key", "k")[2]


def test_its_own_certificate_counts() -> None:
    """LIST-01: a command on the collector's machine believes the collector's own certificate by any name, and no other
    program's; elsewhere `--ca` says whom to believe.
    """

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"path": self.path, "host": self.headers["Host"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    pem, context = certified(Path("own"), "192.0.2.1")
    Path("own.pem").write_bytes(pem)
    Path("other.pem").write_bytes(certified(Path("other"))[0])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_address[1]}/apm"
        own = asking.Collector(url, {}, asking._own_context(Path("own.pem")))
        assert own.json("spikes", from_=1, host=None)["path"] == "/apm/api/spikes?from=1"
        contexts: tuple[ssl.SSLContext, ...] = (
            asking._own_context(Path("other.pem")), asking.trusting(Path("own.pem")), asking.trusting(None),
        )  # fmt: skip
        for context in contexts:
            with pytest.raises(NotDone, match="no collector answers"):
                asking.Collector(url, {}, context).get("spikes")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_report_is_as_wide_as_the_terminal(width: int) -> None:
    """A report fits its terminal: texts are wrapped, names in tables cut, ids never; nothing reaches it unfiltered."""
    name = "GET /\x1b[31m/" + "x" * 300
    report = full_report()
    causes = [msgspec.structs.replace(report.causes[0], value=name)]
    told = list(terminal.told(full_report(causes=causes), width))
    assert "\x1b" not in "".join(told)
    assert report.examples[0].id in "".join(told).replace(" ", "")
    assert all(len(line) <= width for line in told)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", -1800), ("2h", -7200), ("14:03", -120), ("14:06", -86_400 + 60), ("14:03:30", -90),
        ("2027-01-15T14:00", -300), ("2027-01-15 14:00Z", -300), ("2027-01-15T15:00+01:00", -300), ("1800021600", -300),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    """Times are typed as people say them; a time of day is the last one that was."""
    now = 1_800_021_900.0  # 2027-01-15 14:05 UTC
    assert times.moment(text, now) == now + seconds


@pytest.mark.parametrize("text", ["", "25:00", "yesterday", "12", "-5m", "2027-13-01", "1e9"])
def test_no_times(text: str) -> None:
    """What is no time is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words
        times.moment(text, 1_800_000_000.0)
