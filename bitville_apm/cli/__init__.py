"""`bitville`: install, ask, demo. One module a command; each adds its parser and names the function that runs it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import bitville_apm
from bitville_apm.cli import (
    agent,
    alerts,
    backup,
    cert,
    demo,
    doctor,
    gelf_sink,
    journal,
    key,
    php,
    postgres,
    regressions,
    request,
    requests,
    spikes,
    tail,
    top,
    user,
)
from bitville_apm.cli.errors import NotDone
from bitville_apm.ini import ConfigError
from bitville_apm.store.interface import NoSpace
from bitville_apm.store.sqlite.files import StoreError

COMMANDS = (
    demo, top, requests, request, tail, spikes, regressions, doctor, alerts, php, postgres, agent, journal, key, user,
    cert, backup, gelf_sink,
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(prog="bitville", description=bitville_apm.__doc__)
    whole.add_argument("--version", action="version", version=f"bitville {bitville_apm.__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_to(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 it could not be done and stderr says why, 2 wrong usage; interrupted, or
    nobody reads any more what it says: 128 and the signal's number.
    """
    given = parser().parse_args(arguments)
    try:
        code: int = given.run(given)
        sys.stdout.flush()
    except (NotDone, ConfigError, StoreError, NoSpace) as error:
        return complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the end
        return 128 + signal.SIGPIPE
    except PermissionError as error:
        return complain(f"{error.filename}: {error.strerror}; run this as the daemon's user, for example with sudo -u")
    except OSError as error:
        return complain(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def complain(message: str) -> int:
    """One line on stderr; the exit code that goes with it."""
    print(f"bitville: {message}", file=sys.stderr)
    return 1
