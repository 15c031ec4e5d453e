"""Asking an agent through its control socket, and waiting until it has replaced itself."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.agent.rig import Agent, wait_until


def asked(agent: Agent, command: str) -> dict[str, Any]:
    """What the control socket answers."""
    answer = wait_until(lambda: try_to_ask(agent, command), 60, "no answer")
    return answer  # type: ignore[no-any-return]


def try_to_ask(agent: Agent, command: str) -> dict[str, Any] | None:
    """The same; None while the process is being replaced."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(60)
            asking.connect(str(agent.state / "control.sock"))
            asking.sendall(json.dumps({"do": command}).encode() + b"\n")
            return json.loads(b"".join(iter(lambda: asking.recv(65536), b"")))  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return None


def restarts(agent: Agent) -> int:
    """How many there have been; -1 while nobody answers."""
    try:
        return int(agent.health()["stats"]["worker"]["restarts"])
    except OSError:
        return -1


def restarted(agent: Agent, before: int = 0) -> None:
    """Wait until it has."""
    wait_until(lambda: restarts(agent) > before, 30, f"no restart: {agent.text()[-3000:]}")
