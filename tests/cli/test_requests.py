"""`bitville requests` and `bitville request` with a real collector: as its own user, and by a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from bitville_apm.cli import main
from bitville_apm.cli.requests import request_lines
from tests.collector.rig import Rig, item, running
from tests.web.sent import IDS, NOW, record

DIED = {
    "id": "d0000000-0000-4000-8000-000000000000", "at": NOW - 120, "ms": 64_000.0, "method": "GET",
    "uri": "/report?year=2027", "state": "D", "ss": [2_000_000_000, 500_000_000], "release": "r7",
}  # fmt: skip
PAGES = [record(0), record(1, memory={"peak_bytes": 4 << 20}), record(2, at=NOW - 90_000)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector with requests of two projects, one of which died, and what a Postgres was seen doing."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        ended = [item(body, n=n) for n, body in enumerate(PAGES)]
        seen = {"source": "pg_stat_activity", "timestamp": NOW, "data": {"sessions": []}}
        pg = {**item({"id": IDS[3]}, k="pg", n=5), "body": seen}
        sent = rig.post(rig.key("shop"), *ended, item(DIED, k="died", n=4), pg)
        assert sent.json["stored"] == 5, sent.body
        other = record(3, id="b0000000-0000-4000-8000-000000000000", request={"method": "GET", "uri": "/\x1b[2J"})
        assert rig.post(rig.key("blog"), item(other, host="web9")).json["stored"] == 1
        yield rig


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the collector's machine: exit code, what it said, what it complained of."""
    for name in ("URL", "KEY", "KEY_FILE"):
        monkeypatch.delenv(f"BITVILLE_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments: str) -> tuple[int, str, str]:
        own = ("--config", str(rig.directory / "collector.ini")) if "--url" not in arguments else ()
        code = main([*arguments, *own])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def ids(run: Run, *arguments: str) -> list[str]:
    code, out, err = run("requests", "--json", *arguments)
    assert (code, err) == (0, "")
    return [one["id"] for one in json.loads(out)["items"]]


def test_the_slowest(run: Run) -> None:
    """QUERY-02: without a key, on the collector's machine: the slowest of every project in the last hour, no record of
    Postgres among them, whole ids, and nothing that a terminal obeys.
    """
    code, out, err = run("requests")
    assert (code, err) == (0, "")
    first, head, *lines = out.splitlines()
    assert first.endswith(" UTC, the slowest first")
    assert head.split() == [
        "BEGAN", "(UTC)", "TOOK", "CPU", "SQL", "IN", "SQL", "STATUS", "HOST", "PROJECT", "ENDPOINT", "ID"
    ]  # fmt: skip
    assert lines[0].split()[1:] == [
        "1", "m", "04", "s", "-", "-", "-", "died", "web1", "shop", "GET", "/report", DIED["id"]
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines[2:]] == [IDS[1], IDS[0]]
    assert lines[3].split()[1:] == [
        "100", "ms", "-", "2", "10", "ms", "200", "web1", "shop", "GET", "/page/even", IDS[0]
    ]  # fmt: skip
    assert "\x1b" not in out
    assert all(len(line) <= 140 for line in lines)


def test_filters(run: Run) -> None:
    """QUERY-02: every filter is the search's; a time before, the newest first, and how many there are more."""
    everything = ids(run)
    assert len(everything) == 4
    assert ids(run, "--newest")[:2] == [DIED["id"], IDS[0]]
    assert ids(run, "--from", "26h", "--project", "shop") == [DIED["id"], IDS[2], IDS[1], IDS[0]]
    assert ids(run, "--from", "26h", "--to", "24h") == [IDS[2]]
    for arguments, wanted in (
        (("--path", "page%x=1"), [IDS[1]]), (("--endpoint", "GET /page/odd"), [IDS[1]]),
        (("--status", "200"), [IDS[0]]), (("--release", "r7"), [DIED["id"]]), (("--min-ms", "1e4"), [DIED["id"]]),
        (("--host", "web9"), everything[1:2]), (("--host", "web7"), []),
    ):  # fmt: skip
        assert ids(run, *arguments) == wanted, arguments
    lines = run("requests", "--limit", "2", "--project", "shop", "--from", "26h")[1].splitlines()
    assert lines[-1] == "there are more than these 2"
    assert "HOST" not in lines[1]
    assert "PROJECT" not in lines[1]
    assert len(lines[2].split()[0]) == len("2027-01-15")
    said = run("requests", "--host", "web7")[1]
    assert said.startswith("no such request was kept from ")
    assert "are kept whole" in said


def test_what_cannot_be_asked(run: Run, rig: Rig) -> None:
    """QUERY-02: bad input is one line that names it; a key sees its project and no other."""
    for arguments, why in (
        (("--limit", "101"), "limit"), (("--status", "-1"), "status"), (("--min-ms", "nan"), "duration_min"),
        (("--from", "later"), "is no time"), (("--from", "1h", "--to", "2h"), "not after --from"),
        (("--host", ""), "host: empty"), (("--url", rig.url), "wants to know who asks"),
    ):  # fmt: skip
        code, out, err = run("requests", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert why in err
    assert len(ids(run, "--url", rig.url, "--key", rig.key("blog", "read"))) == 1
    assert run("requests", "--url", rig.url, "--key", rig.key("blog", "read"), "--project", "shop")[0] == 1
    with pytest.raises(SystemExit, match="2"):
        run("requests", "--status", "good")


def test_days_are_named_where_they_differ() -> None:
    """Requests of one day are told by the time of day; of two, each with its day. An endpoint is cut, never an id."""
    one = {
        "id": IDS[0], "project": "shop", "source": "php_agent", "at": 1_800_021_600.5, "endpoint": "GET /" + "x" * 90,
        "method": "GET", "url": "/", "status": None, "duration_ms": 0.42, "cpu_ms": None, "sql_count": 1234,
        "sql_ms": 0.0, "memory_peak_bytes": None, "host": "web1", "release": None, "died": False,
    }  # fmt: skip
    same = list(request_lines([one, one], 100))
    assert same[1].startswith("14:00:00 ")
    assert same[1].split()[1:8] == ["0.42", "ms", "-", "1,234", "0", "ms", "-"]
    assert all(len(line) <= 100 and line.endswith((IDS[0], "ID")) for line in same)
    before = {**one, "at": 1_799_935_200.0}
    assert [line[:10] for line in request_lines([one, before], 140)][1:] == ["2027-01-15", "2027-01-14"]
