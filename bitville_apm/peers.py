"""Whose address counts, and who may come in at all: networks as values, no I/O (LIST-03, LIST-08).

Behind a proxy every connection is the proxy's. It says whom it speaks for in `X-Forwarded-For`, which anybody can
send: it is believed from the networks in `trusted_proxies` only, and read from its end, where the nearest proxy wrote.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import attrs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = tuple[Network, ...]


def networks(text: str) -> Networks:
    """Networks and addresses separated by commas or blanks. Raises `ValueError` naming the one that is none."""
    found = []
    for part in text.replace(",", " ").split():
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(f"{part!r} is no network such as 10.0.0.0/8 or 2001:db8::/32 ({error})") from None
    return tuple(found)


def is_in(address: str, among: Networks) -> bool:
    """Whether an address lies in one of the networks; never for what is no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return any(parsed in network for network in among)


@attrs.frozen
class Peers:
    """`allow`: who may come in, everybody when it is empty. `proxies`: whose word about others is believed."""

    allow: Networks = ()
    proxies: Networks = ()

    def is_proxy(self, address: str) -> bool:
        """Whether this is one of our proxies."""
        return is_in(address, self.proxies)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address that counts: the connection's, or the one its proxies speak for.

        `forwarded` are the values of X-Forwarded-For in order. What a proxy hands on and is no address is the
        proxy's own.
        """
        address = peer
        told = [part.strip() for value in forwarded for part in value.split(",")]
        while told and self.is_proxy(address):
            nearest = _bare(told.pop())
            if nearest is None:
                break
            address = nearest
        return address

    def admits(self, address: str) -> bool:
        """Whether this address may come in. This machine always may: its agent and `/health` must not lock out."""
        return not self.allow or is_in(address, self.allow) or is_in(address, LOOPBACK)


LOOPBACK = networks("127.0.0.0/8 ::1/128")


def _bare(text: str) -> str | None:
    """An address without the brackets or port that some proxies add; None for what is none."""
    for candidate in (text, text.strip("[]"), text.rpartition(":")[0].strip("[]")):
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return None
