"""Keys and sessions, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from bitville_apm import limits
from bitville_apm.collector import auth, first
from bitville_apm.collector.auth import Auth, digest, new_key, new_link, parts_of
from bitville_apm.interfaces import Caller
from bitville_apm.store.sqlite import Main
from tests.store.make import NOON, Pump


@attrs.define
class Ring:
    """`IKeyring` on main.db, answering at once, and counting what it is asked."""

    main: Main
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        def answer(*arguments: Any) -> Deferred[Any]:
            self.asked += 1
            return succeed(getattr(self.main, name)(*arguments))

        return answer


@attrs.define
class Door:
    """An `Auth` with everything around it."""

    ring: Ring
    clock: Pump
    auth: Auth

    @property
    def main(self) -> Main:
        return self.ring.main

    def key(self, key: str) -> Caller | None:
        return self.clock.ask(self.auth.by_key(key))

    def add(self, project: str = "shop", scopes: str = "ingest", expires: float | None = None) -> str:
        made = new_key()
        self.main.add_key(made.id, made.hash, project, scopes, NOON, expires)
        return made.text


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    ring, clock = Ring(Main.open(tmp_path)), Pump(NOON)
    environment = {"blog": "an older key", "wiki": "another"}
    yield Door(ring, clock, Auth(ring, clock, environment))
    ring.main.close()


def test_a_key_says_whose_it_is(door: Door) -> None:
    """design 5: several keys live in a project, each with its own scopes; a key stands for one project."""
    one, two = door.add(), door.add(scopes="ingest,read, admin")
    assert one != two
    assert door.key(one) == Caller(f"key {parts_of(one)[0]}", frozenset({"shop"}), frozenset({"ingest"}))
    assert door.key(two).scopes == {"ingest", "read", "admin"}


def test_only_the_whole_key_opens(door: Door) -> None:
    """design 5: every other secret, id or form is unknown, and is never remembered as known."""
    key = door.add()
    assert door.key(key) is not None
    other = door.add()
    mixed = "_".join(("bv", parts_of(key)[0], parts_of(other)[1]))
    for wrong in (key[:-1], key + "x", key.upper(), mixed, key.replace("bv_", "bw_"), "", "_", "\udcff\u20ac"):
        assert door.key(wrong) is None


def test_keys_of_the_environment_only_send(door: Door) -> None:
    """design 5: BITVILLE_API_KEY_<PROJECT> is an ingest key of its project."""
    assert door.key("an older key") == Caller("the environment's key of blog", {"blog"}, {"ingest"})
    assert door.key("another").projects == {"wiki"}


def test_revocation_and_expiry_act_within_the_cache_time(door: Door) -> None:
    """design 5: a revoked or expired key is refused after limits.KEY_CACHE_S at the latest, without a restart."""
    key, short = door.add(), door.add(expires=NOON + 0.5)
    assert door.key(key) is not None
    assert door.key(short) is not None
    door.main.revoke_key(parts_of(key)[0], NOON)
    door.clock.now = NOON + limits.KEY_CACHE_S
    assert door.key(key) is None
    assert door.key(short) is None


def test_a_clock_that_jumps_back_revives_no_key(door: Door) -> None:
    """Faults 17: what was remembered before the clock was set back is looked up again."""
    key = door.add()
    assert door.key(key) is not None
    door.main.revoke_key(parts_of(key)[0], NOON)
    door.clock.now = NOON - 86_400
    assert door.key(key) is None


def test_a_known_key_is_looked_up_once_a_second(door: Door) -> None:
    """limits.KEY_CACHE_S: a busy agent costs one look-up a second; a new key works at once."""
    key = door.add()
    for _ in range(10):
        assert door.key(key) is not None
    assert door.ring.asked == 1
    made = new_key()
    assert door.key(made.text) is None
    door.main.add_key(made.id, made.hash, "shop", "ingest", NOON, None)
    assert door.key(made.text) is not None


def test_what_is_remembered_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """limits.KEYS_CACHED: many keys do not fill the memory."""
    monkeypatch.setattr(limits, "KEYS_CACHED", 3)
    for _ in range(10):
        assert door.key(door.add()) is not None
    assert len(door.auth._cache) == 3


def test_sessions(door: Door) -> None:
    """design 5, LIST-09: a link logs in once; a session has its user's role and projects, and ends."""
    door.main.add_user("eve", "viewer", "shop,blog", NOON)
    door.main.add_user("root", "admin", None, NOON)
    ask = door.clock.ask
    tokens = {}
    for name in ("eve", "root"):
        link, hashed = new_link()
        door.main.add_link(hashed, name, NOON + 60)
        tokens[name] = ask(door.auth.log_in(link))
        assert ask(door.auth.log_in(link)) is None
    assert ask(door.auth.log_in("guess")) is None
    eve = ask(door.auth.by_session(tokens["eve"]))
    assert eve == Caller("eve", frozenset({"shop", "blog"}), frozenset({"read"}))
    assert ask(door.auth.by_session(tokens["root"])) == Caller("root", None, frozenset({"read", "admin"}))
    assert ask(door.auth.by_session("guess")) is None
    assert door.auth.form_token(tokens["eve"]) == door.auth.form_token(tokens["eve"])
    assert door.auth.form_token(tokens["eve"]) != door.auth.form_token(tokens["root"])
    ask(door.auth.log_out(tokens["eve"]))
    assert ask(door.auth.by_session(tokens["eve"])) is None
    door.clock.now = NOON + limits.SESSION_S
    assert ask(door.auth.by_session(tokens["root"])) is None


def test_secrets_are_not_shown() -> None:
    """design 5: neither a key's text nor its hash appears where the object is printed."""
    key = new_key()
    assert key.text.startswith(f"bv_{key.id}_")
    assert key.hash == digest(parts_of(key.text)[1])
    assert key.text not in repr(key)
    assert len(key.text.rpartition("_")[0]) >= 10


@given(st.text())
def test_any_text_is_a_key_or_none(text: str) -> None:
    """Bad input: whatever stands in the header is taken apart or is no key."""
    parts = parts_of(text)
    assert parts is None or text == f"bv_{parts[0]}_{parts[1]}"


def test_the_local_key_is_made_again_when_it_is_no_use(door: Door, tmp_path: Path) -> None:
    """design 8: local.key may send to project `default`; missing, foreign, revoked or garbled it is made anew."""
    path = tmp_path / "local.key"
    seen = set()

    def check() -> str:
        first.ensure_local_key(door.main, path, NOON)
        key = path.read_text().strip()
        assert door.key(key) == Caller(f"key {parts_of(key)[0]}", frozenset({"default"}), frozenset({"ingest"}))
        seen.add(key)
        return key

    assert check() == check()
    path.unlink()
    key = check()
    door.main.revoke_key(parts_of(key)[0], NOON)
    check()
    path.write_text(new_key().text)
    check()
    path.write_bytes(b"\xff\xfe")
    check()
    assert len(seen) == 5


def test_the_way_in_is_for_an_administrator(door: Door, tmp_path: Path) -> None:
    """LIST-09: users that were made beforehand are not overruled; without an administrator there is no link."""
    path = tmp_path / "login.url"
    door.main.add_user("eve", "viewer", None, NOON)
    assert first.ensure_way_in(door.main, path, "http://x", NOON) is None
    door.main.add_user("root", "admin", None, NOON)
    url = first.ensure_way_in(door.main, path, "http://x", NOON)
    assert url == path.read_text().strip()
    token = door.clock.ask(door.auth.log_in(url.rpartition("/")[2]))
    assert door.clock.ask(door.auth.by_session(token)).name == "root"
    assert first.ensure_way_in(door.main, path, "http://x", NOON) is None
    assert not path.exists()
    assert auth.ROLES["admin"] == {"read", "admin"}
