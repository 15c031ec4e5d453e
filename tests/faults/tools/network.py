"""A network of one's own: a namespace joined by a pair of interfaces, whose packets can be dropped, reset or slowed.

    this machine 10.x.y.1 ── veth ── 10.x.y.2 inside, with a loopback of its own

Put `network.words` before a command to run it inside. A thread is inside while it is in `with network.entered():`.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
from collections.abc import Iterator, Sequence

import attrs

from tests.faults.tools.disks import done, run
from tests.tools import require

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Network:
    """One namespace; `here` and `there` are the two addresses of the pair."""

    name: str
    here: str
    there: str
    interface: str

    @property
    def words(self) -> Sequence[str]:
        """Before a command: run it inside."""
        return ("ip", "netns", "exec", self.name)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside: sockets it makes belong there for good."""
        with open("/proc/thread-self/ns/net", "rb") as outside, open(f"/run/netns/{self.name}", "rb") as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(outside.fileno())

    @contextlib.contextmanager
    def _ruled(self, *rule: str) -> Iterator[None]:
        done(*self.words, "iptables", "-A", *rule)
        try:
            yield
        finally:
            run(*self.words, "iptables", "-D", *rule)

    def dropped(self) -> contextlib.AbstractContextManager[None]:
        """While inside the `with`, every packet that leaves towards `here` is lost."""
        return self._ruled("OUTPUT", "-d", self.here, "-j", "DROP")

    def reset(self) -> contextlib.AbstractContextManager[None]:
        """While inside the `with`, every connection towards `here` is reset."""
        return self._ruled("OUTPUT", "-p", "tcp", "-d", self.here, "-j", "REJECT", "--reject-with", "tcp-reset")

    def slow(self, rate: str) -> None:
        """From now on what leaves is at most so fast: `64kbit`."""
        # The smallest bucket that takes a whole packet; the queue is what a modem has.
        how = ["rate", rate, "burst", "4kb", "limit", "30kb"]
        done(*self.words, "tc", "qdisc", "add", "dev", self.interface, "root", "tbf", *how)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A namespace, gone afterwards with all that is in it. As root only; else the check is not run."""
    require("ip", "tc", "iptables")
    number = os.getpid() % 10_000 * 10 + next(_numbers) % 10
    name, outer, inner = f"bv{number}", f"bvo{number}", f"bvi{number}"
    subnet = f"10.{200 + number // 250 % 50}.{number % 250}"
    made = Network(name, f"{subnet}.1", f"{subnet}.2", inner)
    done("ip", "netns", "add", name)
    try:
        done("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        done("ip", "addr", "add", f"{made.here}/30", "dev", outer)
        done("ip", "link", "set", outer, "up")
        done(*made.words, "ip", "addr", "add", f"{made.there}/30", "dev", inner)
        done(*made.words, "ip", "link", "set", inner, "up")
        done(*made.words, "ip", "link", "set", "lo", "up")
        yield made
    finally:
        run("ip", "link", "del", outer)
        run("ip", "netns", "del", name)
