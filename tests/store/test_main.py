"""Keys, users, links and sessions in main.db, from several processes at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.store.keyring import IKeyring
from bitville_apm.store.sqlite import Main, files
from tests.store.make import NOON, Pump, drifts, spike
from tests.store.opened import sqlite_in


@pytest.fixture
def main(tmp_path: Path) -> Iterator[Main]:
    main = Main.open(tmp_path)
    yield main
    main.close()


def test_keys(main: Main) -> None:
    """design 5: several keys live in one project, each revoked by itself; the first revocation's time stays."""
    main.add_key("b", b"2", "shop", "ingest,read", NOON + 1, NOON + 9)
    main.add_key("a", b"1", "shop", "ingest", NOON, None)
    listed = main.keys()
    assert [key["id"] for key in listed] == ["a", "b"]
    assert main.revoke_key("a", NOON + 2)
    assert main.revoke_key("a", NOON + 3)
    assert not main.revoke_key("c", NOON)
    row = main.key("a")
    assert row == {
        "id": "a", "hash": b"1", "project": "shop", "scopes": "ingest", "created": NOON, "expires": None,
        "revoked": NOON + 2,
    }  # fmt: skip
    assert main.keys()[1]["revoked"] is None
    with pytest.raises(sqlite3.IntegrityError):
        main.add_key("a", b"3", "blog", "ingest", NOON, None)


def test_a_link_lets_one_in(tmp_path: Path, main: Main) -> None:
    """LIST-09: of many who use one link at once, from several processes, one gets in; later nobody."""
    main.add_user("admin", "admin", None, NOON)
    main.add_link(b"link", "admin", NOON + 10)
    let_in: list[str | None] = []

    def come() -> None:
        other = Main.open(tmp_path)
        let_in.append(other.take_link(b"link", NOON))
        other.close()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_in, key=str) == [None] * 7 + ["admin"]
    user = main.user("admin")
    assert user is not None
    assert user["seen"] == NOON
    main.add_link(b"old", "admin", NOON)
    assert main.take_link(b"old", NOON) is None
    assert main.take_link(b"unknown", NOON) is None


def test_sessions(main: Main) -> None:
    """design 5: a session lives until it expires or is dropped; what has expired is not kept for ever."""
    main.add_user("eve", "viewer", "shop,blog", NOON)
    main.add_session(b"s", "eve", NOON + limits.SESSION_S)
    row = main.session(b"s", NOON + limits.SESSION_S - 1)
    assert row is not None
    assert (row["name"], row["role"], row["projects"]) == ("eve", "viewer", "shop,blog")
    assert main.session(b"s", NOON + limits.SESSION_S) is None
    main.add_session(b"t", "eve", NOON + 3 * limits.SESSION_S)
    assert main.session(b"s", NOON) is None
    main.drop_session(b"t")
    assert main.session(b"t", NOON) is None
    with pytest.raises(sqlite3.IntegrityError):
        main.add_link(b"x", "nobody", NOON)


def test_the_keyring_answers_as_main_does(tmp_path: Path) -> None:
    """IKeyring: every method of the interface reaches its namesake in main.db."""
    with sqlite_in(tmp_path, Pump()) as opened:
        ring, ask = opened.store.keyring, opened.pump.ask
        assert IKeyring.providedBy(ring)
        ring.main.add_key("a", b"1", "shop", "ingest", NOON, None)
        ring.main.add_user("eve", "viewer", None, NOON)
        ring.main.add_link(b"l", "eve", NOON + 1)
        assert [key["id"] for key in ask(ring.keys())] == ["a"]
        assert ask(ring.key("a"))["project"] == "shop"
        assert ask(ring.user("eve"))["role"] == "viewer"
        assert ask(ring.take_link(b"l", NOON)) == "eve"
        ask(ring.saw_user("eve", NOON + 7))
        assert ask(ring.user("eve"))["seen"] == NOON + 7
        ask(ring.add_session(b"s", "eve", NOON + 1))
        assert ask(ring.session(b"s", NOON))["name"] == "eve"
        ask(ring.drop_session(b"s"))
        assert ask(ring.session(b"s", NOON)) is None


def test_a_main_db_of_the_version_before_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADV-05: spikes of a main.db made before it knew who was told were told by whoever kept them: nobody is again."""
    with monkeypatch.context() as patched:
        patched.setitem(files.VERSIONS, "main", 4)
        old = Main.open(tmp_path)
        old.keep_spike(spike("lasts", end=None))
        old.keep_spike(spike("over"))
        old.close()
    with sqlite_in(tmp_path, Pump()) as opened:
        assert opened.pump.ask(opened.store.spike(None, "lasts")) == spike("lasts", end=None, told=1)
        assert opened.pump.ask(opened.store.spike(None, "over")) == spike("over", told=2)


def test_a_main_db_of_the_version_before_drifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """design 6: a main.db made before there were slow drifts keeps its keys and spikes and takes them; the file as it
    was is beside it.
    """
    with monkeypatch.context() as patched:
        patched.setitem(files.VERSIONS, "main", 3)
        old = Main.open(tmp_path)
        old.add_key("a", b"1", "shop", "ingest", NOON, None)
        old.keep_spike(spike("first"))
        old.close()
    with sqlite_in(tmp_path, Pump()) as opened:
        ask, store = opened.pump.ask, opened.store
        assert ask(store.drifts(None)) == []
        ask(store.keep_drifts(drifts("shop")))
        assert ask(store.drifts(None)) == [drifts("shop")]
        assert ask(store.spike(None, "first")) == spike("first", told=2)
        assert [key["id"] for key in ask(store.keyring.keys())] == ["a"]
    assert (tmp_path / "main.db.version-3").exists()


def test_keys_of_the_version_before_spikes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """design 6: a main.db made before there were spikes keeps its keys and takes spikes."""
    with monkeypatch.context() as patched:
        patched.setitem(files.VERSIONS, "main", 1)
        old = Main.open(tmp_path)
        old.add_key("a", b"1", "shop", "ingest", NOON, None)
        old.close()
    with sqlite_in(tmp_path, Pump()) as opened:
        opened.pump.ask(opened.store.keep_spike(spike("first")))
        assert opened.pump.ask(opened.store.spike(None, "first")) == spike("first")
        assert [key["id"] for key in opened.pump.ask(opened.store.keyring.keys())] == ["a"]
