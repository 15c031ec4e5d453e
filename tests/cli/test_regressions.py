"""`bitville regressions` with a real collector: as its own user, by a key, and before there are days enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm.cli import main
from bitville_apm.cli.regressions import regression_lines
from bitville_apm.store.sqlite import Main
from tests.collector.rig import Rig, running
from tests.web.made import NIGHT, night, regression

NIGHTS = (
    night("blog", days=3),
    night(
        "shop",
        regression(),
        regression("SELECT 1\n\x1b[2J", dimension="statement", per="execution", before_ms=0.05, now_ms=0.2, lost_s=9.0),
        left_out=2,
    ),
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector that had a night."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        kept = Main.open(rig.data)
        for one in NIGHTS:
            kept.keep_drifts(one)
        kept.close()
        yield rig


def test_on_its_own_machine(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ADV-02: without a key the list has every project's drifts, the dearest first, as a table or as JSON; from
    elsewhere a key of scope read sees its own.
    """
    for name in ("URL", "KEY", "KEY_FILE"):
        monkeypatch.delenv(f"BITVILLE_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "140")
    own = ["--config", str(rig.directory / "collector.ini")]
    assert main(["regressions", *own]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "SINCE",
        "BEFORE",
        "NOW",
        "TIMES",
        "PER",
        "A",
        "DAY",
        "SHARE",
        "KIND",
        "PROJECT",
        "WHAT",
    ]
    assert lines[1].split()[1:8] == ["12.5", "ms", "25.5", "ms", "2.04\u00d7", "request,", "cpu"]
    assert lines[1].split()[8:] == ["+3", "m", "05", "s", "42", "%", "endpoint", "shop", "GET", "/checkout"]
    assert "50 µs" in lines[2]
    assert "\x1b" not in "".join(lines)
    assert lines[3:] == ["2 more are not shown", "blog: not enough days yet: 3 of 6"]
    assert main(["regressions", "--json", "--project", "shop", "--limit", "1", *own]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([item["value"] for item in told["items"]], told["more"]) == (["GET /checkout"], 3)
    for project, seen in (("shop", True), ("blog", False)):
        key = tmp_path / project
        key.write_text(rig.key(project, "read"))
        assert main(["regressions", "--url", rig.url, "--key-file", str(key)]) == 0
        assert ("GET /checkout" in capsys.readouterr().out) is seen
    assert main(["regressions", "--limit", "0", *own]) == 1
    assert "limit" in capsys.readouterr().err


def test_with_nothing_to_tell() -> None:
    """ADV-02: before the first night, and after one that found nothing, the command says so."""
    assert list(regression_lines({"items": [], "more": 0, "projects": []}, 80)) == [
        "no night was compared yet; the first is the one after next midnight (UTC)"
    ]
    one = {"project": "shop", "day": NIGHT, "made": NIGHT, "days": 9, "days_wanted": 6, "left_out": 0}
    (line,) = regression_lines({"items": [], "more": 0, "projects": [one]}, 80)
    assert line.startswith("nothing got dearer that still is, up to 20")


@pytest.mark.parametrize("width", [60, 200])
def test_a_narrow_terminal(width: int) -> None:
    """ADV-02: names are cut to the terminal's width, numbers and days are not."""
    item = {
        "project": "shop",
        **{name: getattr(regression("x" * 300), name) for name in regression().__struct_fields__},
    }
    lines = list(regression_lines({"items": [item], "more": 0, "projects": []}, width))
    assert "2.04\u00d7" in lines[1]
    assert width == 60 or all(len(line) <= width for line in lines)
