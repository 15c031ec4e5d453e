"""Records by UDP, sent to a real collector."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.collector.auth import parts_of
from bitville_apm.collector.datagrams import decoded
from tests.agent.rig import wait_until
from tests.collector.rig import Rig, running
from tests.store.make import end_body, new_id


def udp_port() -> int:
    """A UDP port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def signed(key: str, body: bytes, at: float | None = None, **changed: bytes) -> bytes:
    """A datagram as wire.md 5 has it, but for what is `changed` after signing."""
    parts = parts_of(key)
    assert parts is not None
    head = b"BV1 %s %d" % (parts[0].encode(), (time.time() if at is None else at) * 1000)
    signature = hmac.digest(hashlib.sha256(parts[1].encode()).digest(), head + b"\n" + body, "sha256").hex().encode()
    return b"%s %s\n%s" % (changed.get("head", head), changed.get("signature", signature), changed.get("content", body))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Rig, int]]:
    """A collector that takes datagrams, and their port."""
    port = udp_port()
    with running(tmp_path, extra=f"udp = 127.0.0.1:{port}\n") as rig:
        yield rig, port


def send(port: int, *datagrams: bytes) -> None:
    """Some datagrams, no answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", port))


def udp(rig: Rig) -> Any:
    """What `/ready` says of datagrams."""
    return rig.ask("GET", "/ready").json["udp"]


def found(rig: Rig, project: str) -> set[str]:
    """The ids stored in a project."""
    answer = rig.ask("GET", "/api/search?limit=100", key=rig.key(project, "read"))
    return {item["id"] for item in answer.json["items"]}


def test_what_is_signed_is_stored(listening: tuple[Rig, int]) -> None:
    """LIST-01: a signed datagram is stored, plain or compressed, one record or several, each once, for its key."""
    rig, port = listening
    key, ids = rig.key("shop"), [new_id() for _ in range(4)]
    bodies = [json.dumps(end_body(id, time.time() - 1)).encode() for id in ids]
    first = signed(key, bodies[0])
    packed = zstandard.ZstdCompressor().compress(bodies[3])
    send(port, first, first, signed(key, bodies[1] + b"\n" + bodies[2]), signed(key, packed))
    wait_until(lambda: found(rig, "shop") == set(ids))
    assert found(rig, "blog") == set()
    told = udp(rig)
    assert told == {"enabled": True, "port": port, "received": 4, "errors": 0, "by_error": {}}


def test_what_is_not_is_counted(listening: tuple[Rig, int]) -> None:
    """LIST-01: another's name, an old time, a changed byte, a revoked or reading key: nothing stored, each counted."""
    rig, port = listening
    key, reading, revoked = rig.key("shop"), rig.key("shop", "read"), rig.key("shop")
    rig.revoke(revoked)
    body = json.dumps(end_body(new_id(), time.time() - 1)).encode()
    other = rig.key("blog")
    send(
        port,
        signed(key, body, content=body + b" "),
        signed(key, body, head=b" ".join(signed(other, body).split(b" ")[:3])),
        signed(key, body, signature=b"0" * 64),
        signed("bv_nobody_secret", body),
        signed(revoked, body),
        signed(reading, body),
        signed(key, body, at=time.time() - 2 * limits.DATAGRAM_AGE_S),
        signed(key, body, at=time.time() + 2 * limits.DATAGRAM_AGE_S),
        b"BV1",
        b"",
        b"\x00" * 1000,
        signed(key, b"{}"),
        signed(key, b"\x28\xb5\x2f\xfdbroken"),
    )
    wait_until(lambda: udp(rig)["received"] == 13)
    wait_until(lambda: udp(rig)["errors"] == 13)
    assert udp(rig)["by_error"] == {"400": 1, "403": 1, "clock": 2, "form": 3, "record": 1, "signature": 5}
    assert found(rig, "shop") == found(rig, "blog") == set()


def test_off_by_default(tmp_path: Path) -> None:
    """LIST-01: nobody listens for datagrams unless told to."""
    with running(tmp_path) as rig:
        assert udp(rig) == {"enabled": False, "port": None, "received": 0, "errors": 0}


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes by UDP is a datagram of the form or none, and never an error."""
    datagram = decoded(data)
    assert datagram is None or data.endswith(datagram.body)


@given(st.binary(max_size=300), st.integers(0, 10**13))
def test_form(body: bytes, at_ms: int) -> None:
    """The body comes out as it went in, newlines and all, and the signature is over all but itself."""
    datagram = decoded(b"BV1 abc %d %s\n" % (at_ms, b"0a" * 32) + body)
    assert datagram is not None
    assert (datagram.key_id, datagram.sent_ms, datagram.body) == ("abc", at_ms, body)
    assert datagram.signed == b"BV1 abc %d\n" % at_ms + body
