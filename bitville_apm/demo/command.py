"""`bitville demo`: its options, and what it does with them."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bitville_apm.demo import recorded, traffic, unrest
from bitville_apm.demo.children import ChildDied, Children
from bitville_apm.demo.place import Place, PlaceError, default_state
from bitville_apm.demo.run import WEB_PORT, Demo, DemoError
from bitville_apm.demo.trouble import SECONDS, TROUBLES


def main(options: argparse.Namespace) -> int:
    """Run the demo until it is stopped, with what `add_options` offers. Returns the exit code."""
    if options.trouble is not None:
        return make_trouble(options.state or default_state(os.environ), options.trouble)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _setter(stopping))
    try:
        with Place.taken(options.state or default_state(os.environ), os.environ) as place:
            children = Children(place.state / "logs", place.state / "processes")
            demo = Demo(place, children, stopping, options.recorded, options.rate, not options.quiet)
            demo.run(options.port, options.seconds)
    except (PlaceError, DemoError, ChildDied, OSError) as error:
        print(f"bitville demo: {error}", file=sys.stderr)
        return 1
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where to keep everything, also for the next run (default: $XDG_STATE_HOME/bitville-apm/demo)",
    )
    parser.add_argument("--port", type=_port, help=f"of the web page (default: {WEB_PORT}, or the next free one)")
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help=f"visits a second (default: {traffic.RATE:g}; recorded traffic: {recorded.RATE:g})",
    )
    parser.add_argument(
        "--trouble",
        choices=list(TROUBLES),
        metavar="NAME",
        help="ask the demo that is running for a minute of trouble, to have a spike to explain: "
        + "; ".join(f"{name}: {trouble.says}" for name, trouble in TROUBLES.items()),
    )
    parser.add_argument("--quiet", action="store_true", help="no troubles by itself (else one every ten minutes)")
    parser.add_argument("--recorded", action="store_true", help="recorded traffic, even where PHP is installed")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop by itself after so long")


def make_trouble(state: Path, name: str) -> int:
    """Ask the demo that runs in `state` for a trouble. Returns the exit code."""
    if not Place.is_taken(state):
        print(f"bitville demo: no demo is running in {state}; start one with bitville demo", file=sys.stderr)
        return 1
    if not unrest.ask(state, name):
        print(
            f"bitville demo: the demo in {state} cannot make it (recorded traffic makes no trouble, and without "
            "php-fpm there are no releases to deploy)",
            file=sys.stderr,
        )
        return 1
    print(f"{name} for {SECONDS:g} s: {TROUBLES[name].says}")
    return 0


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 0 < port < 65_536:
        raise argparse.ArgumentTypeError("a port is wanted, 1 to 65535")
    return port


def _rate(text: str) -> float:
    rate = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError("a number above 0 is wanted, at most 1000")
    return rate


def _setter(event: threading.Event) -> Callable[[int, FrameType | None], None]:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        event.set()

    return on_signal
