"""A real collector over its socket: who may send, what is answered, what it survives."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard

from bitville_apm import limits
from tests.collector.rig import Rig, item, running
from tests.store.make import end_body, new_id

WIRE = Path(__file__).parent.parent / "wire"
SENDING = ["/ingest", "/ingest/php", "/ingest/postgres", "/ingest/frames", "/api/profiling"]


def end(**more: Any) -> dict[str, Any]:
    """An end record of now."""
    return end_body(new_id(), time.time() - 1, **more)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    environment = {"BITVILLE_API_KEY_LEGACY": "an old key"}
    with running(tmp_path_factory.mktemp("rig"), environment=environment) as rig:
        yield rig


@pytest.fixture(scope="module")
def key(rig: Rig) -> str:
    return rig.key("shop", "ingest,read")


# --- Who may send -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SENDING)
def test_no_way_in_without_a_key_that_may(rig: Rig, key: str, path: str) -> None:
    """Faults 26, LIST-03: no key, a wrong, a revoked, an expired and a read-only one are refused on every route."""
    body = end()
    revoked, expired, reader = rig.key(), rig.key(expires=time.time() - 1), rig.key(scopes="read,admin")
    rig.revoke(revoked)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert rig.ask("POST", path, b"{}").json["message"] == "Missing Authorization header"
    assert rig.ask("POST", path, b"{}").status == 401
    for bad in (wrong, revoked, expired, "", "bv_", "bv_x_y", "a b", "bv_" + key[3:15] + "_"):
        answer = rig.post(bad, body, path=path)
        assert (answer.status, answer.json["message"]) == (401, "Invalid API key"), bad
    assert rig.ask("POST", path, b"{}", Authorization=f"Basic {key}").status == 401
    assert rig.post(reader, body, path=path).status == 403
    assert rig.ask("GET", f"/api/requests/{body['id']}", key=key).status == 404
    assert rig.post(key, body, path=path).json["stored"] == 1
    assert rig.ask("GET", f"/api/requests/{body['id']}", key=key).status == 200


def test_another_project_is_out_of_reach(rig: Rig, key: str) -> None:
    """STOR-04, faults 26: the key decides where a record goes and what is seen, whatever is claimed or asked."""
    other = rig.key("blog", "ingest,read")
    body = end(project="blog")
    assert rig.post(key, body, item(end() | {"project": "blog"})).json["stored"] == 2
    assert rig.ask("GET", f"/api/requests/{body['id']}", key=key).status == 200
    assert rig.ask("GET", f"/api/requests/{body['id']}", key=other).status == 404
    assert rig.ask("GET", "/api/search", key=other).json["items"] == []
    assert rig.post(other, body).json["stored"] == 1


def test_a_key_ends_within_a_second_without_a_restart(rig: Rig) -> None:
    """design 5: revocation acts on a running collector within limits.KEY_CACHE_S."""
    mine = rig.key()
    assert rig.post(mine, end()).status == 200
    rig.revoke(mine)
    time.sleep(limits.KEY_CACHE_S + 0.1)
    assert rig.post(mine, end()).status == 401


def test_keys_of_the_environment_and_of_this_machine(rig: Rig) -> None:
    """DAEMON-16, design 8: `BITVILLE_API_KEY_<PROJECT>` and `local.key` may send, and only that."""
    for sender in ("an old key", rig.local_key):
        assert rig.post(sender, end()).json["stored"] == 1
        assert rig.ask("GET", "/api/search", key=sender).status == 403
    assert (rig.data / "local.key").stat().st_mode & 0o777 == 0o640


# --- What is answered -------------------------------------------------------------------------------------


def test_a_batch_is_answered_line_by_line(rig: Rig, key: str) -> None:
    """wire.md 5: 200 after the commit, counts, and for each refused line its number, id, reason and fields."""
    body = end()
    answer = rig.post(
        key, item(body), item(body), b"{broken", item(end(), recv=0), item(end(), recv=10**13), item(end())
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json
    assert (told["success"], told["stored"], told["duplicate"]) == (True, 2, 1)
    assert [(r["line"], r["reason"]) for r in told["rejected"]] == [(3, "invalid"), (4, "expired"), (5, "clock")]
    assert told["rejected"][0]["id"] is None
    assert told["rejected"][1]["id"]
    assert all(f["field"] is not None and f["problem"] for r in told["rejected"] for f in r["fields"])
    assert rig.post(key, b"{broken").status == 200


def test_a_single_bare_record(rig: Rig, key: str) -> None:
    """wire.md 5, LIST-04: one bare object is answered with its row, or 400 with its fields."""
    record = {"correlation_id": "Order 7", "timestamp": time.time(), "elapsed_ms": 12}
    plain = json.dumps(record).encode()
    told = rig.ask("POST", "/ingest/php", plain, key, Content_Type="application/json").json
    assert (told["success"], told["correlation_id"]) == (True, "Order 7")
    assert rig.ask("GET", f"/api/requests/{told['row_id']}", key=key).status == 200
    bad = rig.ask("POST", "/ingest/php", b'{"correlation_id": "x"}', key, Content_Type="application/json")
    assert bad.status == 400
    assert {(d["line"], d["field"]) for d in bad.json["details"]} == {(1, "elapsed_ms"), (1, "timestamp")}
    broken = rig.ask("POST", "/ingest/php", b'{"a', key, Content_Type="application/json")
    assert (broken.status, set(broken.json)) == (400, {"error", "message", "details"})
    assert rig.ask("POST", "/ingest", b" \n", key).status == 400


def test_real_records_twice(rig: Rig) -> None:
    """wire.md 3: every real record of the first version is stored once, however often sent, and comes back whole."""
    mine = rig.key("real", "ingest,read")
    lines: list[bytes] = []
    for name in ("version1-real.ndjson.gz", "version1-real-full.ndjson.gz"):
        lines += gzip.decompress((WIRE / name).read_bytes()).splitlines()
    assert len(lines) == 74
    for stored, duplicate in ((1, 0), (0, 1)):
        for line in lines:
            told = rig.post(mine, line).json
            assert (told["stored"], told["duplicate"], told["rejected"]) == (stored, duplicate, [])
    ids = [json.loads(line)["correlation_id"] for line in lines]
    rows: list[dict[str, Any]] = []
    after = ""
    while after is not None:
        page = rig.ask("GET", f"/api/search?limit=30{after and '&after=' + after}", key=mine).json
        rows += page["items"]
        after = page["cursor"]
    assert len(rows) == len(set(ids)) == 74
    for id, line in zip(ids, lines, strict=True):
        back = rig.ask("GET", f"/api/requests/{id}", key=mine).json
        record = back.get("record", back)
        sent = json.loads(line)
        assert {name: record[name] for name in sent} == sent
    top = rig.ask("GET", f"/api/top?dimension=endpoint&from={time.time() - 5 * 3600}&to={time.time() + 60}", key=mine)
    assert top.status == 200


def test_routes_that_are_not(rig: Rig, key: str) -> None:
    """LIST-04: an unknown route is 404 naming itself, a known one with another method 405."""
    assert "/api/nothing" in rig.ask("GET", "/api/nothing", key=key).json["message"]
    assert rig.ask("GET", "/api/nothing", key=key).status == 404
    answer = rig.ask("GET", "/ingest")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "/ingest" in answer.json["message"]


def test_health_and_ready(rig: Rig, key: str) -> None:
    """LIST-07: /health is static; /ready tells what it stands on, names of agents only to those who may read."""
    assert rig.ask("GET", "/health").json == {"status": "healthy"}
    journal = {
        "Bitville_Journal": "ab" * 16,
        "Bitville_Agent": "0.9.1",
        "Bitville_Sent": str(time.time() * 1000 - 5000),
    }
    assert rig.post(key, item(end()), **journal).status == 200
    ready = rig.ask("GET", "/ready")
    assert ready.status == 200
    told = ready.json
    assert told["ready"] is True
    assert told["database"]["ok"] is True
    assert told["api_keys"] >= 2
    assert told["disk"]["free_bytes"] > 0
    assert (told["agents"], told["agents_seen"] >= 1) == ([], True)
    agents = rig.ask("GET", "/ready", key=key).json["agents"]
    assert (agents[0]["version"], agents[0]["host"]) == ("0.9.1", "web1")
    assert agents[0]["skew_s"] == pytest.approx(5, abs=2)
    other = rig.key("blog", "read")
    assert rig.ask("GET", "/ready", key=other).json["agents"] == []


# --- What it survives -------------------------------------------------------------------------------------


def bombs() -> dict[str, tuple[bytes, str | None, int]]:
    """Bodies that are or become too large, by Content-Encoding, with the status they get."""
    zeros = b"\0" * (200 * limits.MIB)
    fits = b" " * (limits.BODY_INFLATED_BYTES - 10)
    return {
        "zstd bomb": (zstandard.ZstdCompressor(level=19).compress(zeros), "zstd", 413),
        "zstd bomb of unknown size": (_undeclared(zeros), "zstd", 413),
        "zstd bomb that lies": (_lying(zeros[: 15 * limits.MIB]), "zstd", 400),
        "gzip bomb": (gzip.compress(zeros, 6), "gzip", 413),
        "wide window": (_wide(), "zstd", 400),
        "gzip of two members": (gzip.compress(b"{}") + gzip.compress(b"{}"), "gzip", 400),
        "cut zstd": (zstandard.compress(fits)[:-20], "zstd", 400),
        "no zstd": (b"{}", "zstd", 400),
        "unknown encoding": (b"{}", "br", 415),
        "long body": (b" " * (limits.BODY_BYTES + 1), None, 413),
    }


def _undeclared(plain: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19, write_content_size=False).compress(plain)


def _lying(plain: bytes) -> bytes:
    honest = zstandard.compress(plain)
    assert zstandard.frame_content_size(honest) == len(plain)
    return honest.replace(len(plain).to_bytes(4, "little"), (1000).to_bytes(4, "little"), 1)


def _wide() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(os.urandom(limits.MIB)) + compressor.flush()


def test_bombs(rig: Rig, key: str) -> None:
    """Faults 21: what is too large, packed or plain, is refused; memory grows by less than 32 MB; the daemon lives."""
    assert rig.process is not None
    process = psutil.Process(rig.process.pid)
    largest = zstandard.compress(b"[" * (limits.BODY_INFLATED_BYTES - 10))
    for _ in range(3):  # a body of the largest size allowed is refused for what is in it
        assert rig.post(key, largest, Content_Encoding="zstd").json["rejected"][0]["reason"] == "oversize"
    before, peak, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for name, (body, encoding, status) in bombs().items():
            headers = {"Content_Encoding": encoding} if encoding else {}
            answer = rig.ask("POST", "/ingest", body, key, Content_Type="application/x-ndjson", **headers)
            assert answer.status == status, (name, answer)
            if status != 200:
                assert answer.json["message"], name
    finally:
        done.set()
        watcher.join()
    assert peak[0] - before < 32 * limits.MIB
    assert rig.post(key, end()).json["stored"] == 1


def test_an_endless_body(rig: Rig, key: str) -> None:
    """Faults 21: 300 MB are refused by their announced length, before they are read."""
    with socket.create_connection(("127.0.0.1", rig.port), timeout=10) as sender:
        head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 300000000\r\n\r\n"
        sender.sendall(head.encode() + b"x" * 1000)
        assert sender.recv(100).startswith(b"HTTP/1.1 413")


def test_other_content_types(rig: Rig, key: str) -> None:
    """wire.md 5: a form is no record: 415 says what is."""
    for kind in ("application/x-www-form-urlencoded", "image/png", "application/xml"):
        assert rig.ask("POST", "/ingest", b"a=1", key, Content_Type=kind).status == 415
    for kind in ("application/json; charset=utf-8", "text/plain", "Application/X-NDJSON"):
        assert rig.ask("POST", "/ingest", json.dumps(end()).encode(), key, Content_Type=kind).status == 200


def test_a_sender_that_hangs_up_does_not_undo_the_commit(rig: Rig, key: str) -> None:
    """design 5: commit first; a client that disconnects changes nothing about what it sent whole."""
    records = [end() for _ in range(20)]
    for record in records:
        body = json.dumps(record).encode()
        with socket.create_connection(("127.0.0.1", rig.port), timeout=10) as sender:
            head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            sender.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.01)
    until = time.monotonic() + 10
    missing = {r["id"] for r in records}
    while missing and time.monotonic() < until:
        missing = {id for id in missing if rig.ask("GET", f"/api/requests/{id}", key=key).status != 200}
    assert not missing
    assert "Traceback" not in rig.log


def test_many_senders_at_once(rig: Rig) -> None:
    """I1: batches that come together, with duplicates among them, are each answered rightly; rolls are exact."""
    mine = rig.key("many", "ingest,read")
    at = time.time() - 30
    records = [end_body(new_id(), at, 10) for _ in range(200)]
    answers: list[dict[str, Any]] = []

    def send(number: int) -> None:
        answers.append(rig.post(mine, *(item(record) for record in records[number * 20 : number * 20 + 60])).json)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert sum(a["stored"] for a in answers) == 200
    assert sum(a["stored"] + a["duplicate"] for a in answers) == 8 * 60
    top = rig.ask("GET", f"/api/top?dimension=endpoint&from={at - 3600}&to={at + 3600}", key=mine).json["items"]
    assert [(row["requests"], row["wall_ms"]) for row in top] == [(200, 2000)]
