"""Times as people type them: `--from` and `--to` of the commands that ask a collector. All UTC. Pure."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta, timezone

from bitville_apm.cli.errors import NotDone

_CLOCK = re.compile(r"(\d\d?):(\d\d)(?::(\d\d))?\Z")
_AGO = re.compile(r"(\d{1,5})([smhd])\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORMS = "14:03, 14:03:20, 2027-01-31T14:03, 30m (ago), or unix seconds"
HELP = f"{_FORMS}; UTC"


def moment(text: str, now: float) -> float:
    """Unix seconds of a time: a time of day is the last one that was, `30m` is so long ago. Raises `ValueError`."""
    if match := _AGO.match(text):
        return now - int(match[1]) * _UNITS[match[2]]
    if match := _CLOCK.match(text):
        today = datetime.fromtimestamp(now, timezone.utc)
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        at = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (at if at.timestamp() <= now else at - timedelta(days=1)).timestamp()
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return float(text)
    read = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    return (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()


def window(given: argparse.Namespace, now: float, usual_s: float) -> tuple[float, float]:
    """The window of `--from` and `--to`; the last `usual_s` seconds where nothing is said. Raises `NotDone`."""
    end = now if given.to is None else _read("--to", given.to, now)
    start = end - usual_s if given.from_ is None else _read("--from", given.from_, now)
    if end <= start:
        raise NotDone("--to is not after --from")
    return start, end


def add_options(parser: argparse.ArgumentParser, usual: str) -> None:
    """`--from` and `--to`."""
    parser.add_argument("--from", dest="from_", metavar="TIME", help=f"{HELP} (default: {usual})")
    parser.add_argument("--to", metavar="TIME", help="likewise (default: now)")


def _read(option: str, text: str, now: float) -> float:
    try:
        return moment(text, now)
    except ValueError:
        raise NotDone(f"{option} {text!r} is no time; {_FORMS}") from None
