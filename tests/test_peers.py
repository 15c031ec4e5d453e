"""Whose address counts, and who may come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.peers import Peers, is_in, networks

PROXIES = networks("10.0.0.0/8, 2001:db8::/32")
BEHIND = Peers(proxies=PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("2001:db8::1", ["[2001:470::9]:4711"], "2001:470::9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
    ],
)
def test_forwarded(peer: str, forwarded: list[str], client: str) -> None:
    """LIST-08: X-Forwarded-For is believed from our proxies only, and read from its end."""
    assert BEHIND.client(peer, forwarded) == client


@given(st.lists(st.text(max_size=40), max_size=5))
def test_strangers_forge_nothing(forwarded: list[str]) -> None:
    """LIST-08: whatever the header says, a stranger's address is its connection's."""
    assert BEHIND.client("192.0.2.1", forwarded) == "192.0.2.1"


@given(st.lists(st.text(max_size=40), max_size=5))
def test_always_an_address(forwarded: list[str]) -> None:
    """What a proxy hands on may be anything; what comes out is an address."""
    assert networks(BEHIND.client("10.0.0.1", forwarded))


def test_allow() -> None:
    """LIST-03: `allow` lists networks; this machine is never locked out, and no list lets everybody in."""
    some = Peers(allow=networks("192.0.2.0/24 2001:db8:1::/48"))
    admitted = {a: some.admits(a) for a in ("192.0.2.9", "192.0.3.9", "2001:db8:1::7", "2001:db8:2::7", "127.0.0.1")}
    assert admitted == {
        "192.0.2.9": True, "192.0.3.9": False, "2001:db8:1::7": True, "2001:db8:2::7": False, "127.0.0.1": True
    }  # fmt: skip
    assert some.admits("::ffff:192.0.2.9")
    assert not some.admits("nonsense")
    assert Peers().admits("203.0.113.9")


def test_networks() -> None:
    """A setting that is no network is named."""
    assert is_in("10.1.2.3", networks(" 10.1.2.3 "))
    assert networks("") == ()
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is no network"):
        networks("192.0.2.0/24, 10.0.0.1/8")
