"""Whatever text a record or an address holds, a page shows it as text and as nothing else."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.web.html import HOSTILE, assert_harmless
from tests.web.made import end_record
from tests.web.world import World, shop


def hostile_records() -> list[dict[str, Any]]:
    hostile = {HOSTILE: HOSTILE, "list": [{HOSTILE: [HOSTILE]}]}
    return [
        end_record(
            id=HOSTILE + str(i),
            request={
                "method": HOSTILE, "uri": HOSTILE, "route": route, "query": hostile, "headers": hostile,
                "post": hostile, "files": hostile,
            },
            response={"status": 500, "headers": hostile},
            sql={
                "n": 1, "ms": 5.0, "queries": [{"sql": f'SELECT "{HOSTILE}" -- {HOSTILE}', "ms": 5.0, "c": 0}],
                "connections": [{"driver": "pgsql", "host": HOSTILE, "database": HOSTILE, "user": HOSTILE}],
            },
            calls=[{"kind": "http", "target": HOSTILE, "ms": 1.0}],
            profile=profile, fatal={"type": HOSTILE, "message": HOSTILE, "file": HOSTILE, "line": 1},
            context=hostile, release=HOSTILE, client=HOSTILE, agent=HOSTILE, server={"hostname": HOSTILE},
            trace=hostile, host=HOSTILE,
        )
        for i, (route, profile) in enumerate(
            [
                (HOSTILE, {"kind": "xhprof", "edges": {HOSTILE: {"ct": 1, "wt": 9000}}}),
                (None, {"kind": "excimer", "period_us": 10_000, "stacks": f"{HOSTILE};{HOSTILE} 12\n"}),
            ]
        )
    ]  # fmt: skip


def test_hostile_text_in_every_field() -> None:
    """PHP-09 and design 7: whatever text a record holds anywhere, a page shows it as text and as nothing else."""
    w = World()
    for record in hostile_records():
        w.store.add(HOSTILE, record)
        w.store.add("second" + HOSTILE, {**record, "id": record["id"] + "2"})
    session = w.session("<b>eve</b>" + HOSTILE)
    pages = ["/", *(f"/requests/{kept.found.id}" for kept in w.store.kept)]
    for path in pages:
        page = w.ask(path, session=session)
        assert page.status == 200, path
        assert "alert(1)" in page.text
        assert_harmless(page.text)


@pytest.mark.parametrize("name", ["url", "endpoint", "release", "host", "project", "correlation_id", "after"])
def test_hostile_text_in_every_parameter(name: str) -> None:
    """Design 7: what an address holds is shown as text, on a page of results or of an error."""
    w = shop()
    assert_harmless(w.ask(f"/?{name}={quote(HOSTILE)}", session=w.session()).text)
    assert_harmless(w.ask(f"/?{quote(HOSTILE)}=1", session=w.session()).text)
    assert_harmless(w.ask(f"/{quote(HOSTILE)}", session=w.session()).text)
    assert_harmless(w.ask(f"/login/{quote(HOSTILE, safe='')}").text)
