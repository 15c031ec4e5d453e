"""Whether an agent could start with a configuration, told without starting it (`bitville-agent --check`).

A running agent asks this before it replaces itself, and says what it holds itself: that need not be free.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bitville_apm.agent.config import AgentConfig
from bitville_apm.agent.handover import Holds
from bitville_apm.agent.inherited import Lent, unclaimed
from bitville_apm.agent.lifecycle import HELD
from bitville_apm.agent.socketfile import CannotListen, SocketFile, lock
from bitville_apm.ini import Address, unusable


def check(settings: AgentConfig, environment: Mapping[str, str]) -> None:
    """Raises `CannotListen` with what is in the way. Asked by a person it finds nothing in use: an agent may run."""
    asked = environment.get(HELD)
    holds = msgspec.json.decode(asked, type=Holds) if asked else None
    lent = [Lent(-1, Path(path), name) for path, name in (holds.lent if holds else {}).items()]
    sections = [(php.name, php.socket) for php in settings.php]
    problem = unclaimed(lent, sections)
    if problem:
        raise CannotListen(problem)
    for php in settings.php:
        if not any(one.belongs(php.name, php.socket) for one in lent):
            ours = holds is None or str(php.socket) in holds.sockets
            SocketFile(php.socket, php.mode, php.group).check(ours)
        if php.datagram is not None:
            ours = holds is None or str(php.datagram) in holds.sockets
            SocketFile(php.datagram, php.mode, php.group).check(ours)
    if holds is None:
        return
    for php in settings.php:
        if php.udp is not None and str(php.udp) not in holds.sockets:
            _free("udp", php.udp, socket.SOCK_DGRAM)
    if str(settings.agent.health) != holds.health:
        _free("health", settings.agent.health, socket.SOCK_STREAM)
    if str(settings.agent.state) != holds.state:
        os.close(lock(settings.agent.state / "agent.lock"))


def _free(what: str, address: Address, kind: int) -> None:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        raise CannotListen(f"{what} {unusable(address, error)}") from None
