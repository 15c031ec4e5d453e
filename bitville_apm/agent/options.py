"""What the command line of `twistd bitville-agent` takes, and what of this process must be known before twistd goes on.

It daemonizes, and it goes to another directory: everything that depends on where it was started is looked at here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.python import usage
from twisted.web.iweb import IPolicyForHTTPS

from bitville_apm.agent import handover
from bitville_apm.agent.checked import check
from bitville_apm.agent.config import AgentConfig, read_agent
from bitville_apm.agent.inherited import Inheritance, lent_sockets, unclaimed
from bitville_apm.agent.lifecycle import CHECKED, Command, handed_over
from bitville_apm.agent.socketfile import CannotListen
from bitville_apm.agent.transmitter import trust
from bitville_apm.ini import ConfigError


class Options(usage.Options):
    """What the command line takes."""

    synopsis = "twistd [twistd options] bitville-agent [--config FILE]"
    optParameters = [  # noqa: RUF012  # twisted's way
        ["config", "c", None, "agent.ini; without it the defaults and BITVILLE_… of the environment hold"],
    ]
    optFlags = [  # noqa: RUF012
        ["check", None, "only say whether an agent could start with this configuration, and end"],
    ]
    longdesc = (
        "Receives what PHP processes on this host tell of their requests, keeps it in a journal on disk, and "
        "forwards it to the collector."
    )
    settings: AgentConfig
    policy: IPolicyForHTTPS
    inheritance: Inheritance
    command: Command

    def postOptions(self) -> None:
        """Read the configuration, so that a mistake in it is one line and exit code 1."""
        path = Path(self["config"]) if self["config"] else None
        try:
            self.settings = read_agent(path, os.environ)
            self.policy = _policy(self.settings.collector.ca)
            if self["check"]:
                check(self.settings, os.environ)
                sys.stdout.write(f"{CHECKED} {handover.VERSION}\n")
                raise SystemExit(0)
            self.settings.agent.state.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._inherit()
        except (ConfigError, CannotListen) as error:
            raise usage.UsageError(str(error)) from None
        except OSError as error:
            raise usage.UsageError(
                f"state directory {error.filename}: {error.strerror}; the agent's user has to write [agent] state"
            ) from None

    def _inherit(self) -> None:
        """Here, because twistd goes to other directories and other processes after this."""
        twistd = self.parent if self.parent is not None else {}
        self.command = Command.of(twistd, sys.orig_argv, len(sys.argv) - 1, os.getcwd())
        self.inheritance = Inheritance(lent_sockets(os.environ), handed_over(os.environ))
        problem = unclaimed(self.inheritance.lent, [(php.name, php.socket) for php in self.settings.php])
        if problem:
            raise CannotListen(problem)


def _policy(ca: Path | None) -> IPolicyForHTTPS:
    if ca is None:
        return trust(None)
    try:
        return trust(ca.read_bytes())
    except OSError as error:
        raise ConfigError(ca, f"[collector] ca cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(ca, f"[collector] ca {error}") from None
