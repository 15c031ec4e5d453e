"""`bitville doctor`: what is wrong on this machine, and what to do about it. Nothing is changed by it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.agent.config import read_agent
from bitville_apm.analysis.telling import shown
from bitville_apm.cli import doctor_agent, doctor_collector, php, php_settings
from bitville_apm.cli.findings import LEVELS, Check, Finding, examined
from bitville_apm.cli.php_files import SOURCE
from bitville_apm.collector.config import read_collector
from bitville_apm.ini import ConfigError

_CODES = {"absent": 0, "ok": 0, "warning": 1, "problem": 2}
_WORDS = {"absent": "-", "ok": "ok", "warning": "warning", "problem": "PROBLEM"}


def add_to(commands: Any) -> None:
    """The command."""
    doctor = commands.add_parser(
        "doctor",
        help="what is wrong on this machine, and what to do about it",
        description="Looks at the agent, the collector, the PHP client and the Postgres servers that are set up on "
        "this machine; changes nothing, and ends within seconds whatever hangs. Best as root or the daemons' user. "
        "Exit code 0: all is well, 1: there are warnings, 2: there are problems.",
    )
    doctor.add_argument("--etc", type=Path, default=Path("/etc"), metavar="DIR", help="where configuration is: /etc")
    for option, file in (("--agent", "agent.ini"), ("--collector", "collector.ini"), ("--ini", "profiling.ini")):
        help_ = f"{file} (default: bitville-apm/{file} in --etc, if it is there)"
        doctor.add_argument(option, type=Path, metavar="FILE", help=help_)
    doctor.add_argument("--json", action="store_true", help="print JSON, for programs")
    doctor.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    found = list(examination(given))
    worst = max((one.level for one in found), key=LEVELS.index)
    if given.json:
        print(json.dumps({"status": worst, "checks": [attrs.asdict(one) for one in found]}, indent=2))
    else:
        print("\n".join(finding_lines(found, shutil.get_terminal_size((120, 24)).columns)), flush=True)
    return _CODES[worst]


def examination(given: argparse.Namespace) -> Iterator[Finding]:
    """All findings; of what is not set up here one each."""
    checks: dict[str, Check] = {}
    here = given.etc / "bitville-apm"
    parts: tuple[tuple[str, Path | None, Path, Any], ...] = (
        ("agent", given.agent, here / "agent.ini", lambda path: doctor_agent.checks(read_agent(path, os.environ))),
        (
            "collector", given.collector, here / "collector.ini",
            lambda path: doctor_collector.checks(read_collector(path, os.environ)),
        ),
        ("PHP client", given.ini, here / "profiling.ini", lambda path: [("PHP client", lambda: _php(path, given.etc))]),
    )  # fmt: skip
    absent = 0
    for about, named, usual, checks_of in parts:
        path = usual if named is None else named
        if named is None and not path.exists():
            absent += 1
            yield Finding(about, "absent", f"not set up here: no {path}")
            continue
        try:
            checks.update(checks_of(path))
        except ConfigError as error:
            yield Finding(about, "problem", str(error), "its daemon would not start like this")
    if absent == len(parts):
        do = "docs/install.md; --agent, --collector and --ini name files that are elsewhere"
        yield Finding("this machine", "problem", "nothing of Bitville APM is set up here", do)
    yield from examined(checks, limits.DOCTOR_S)


def _php(ini: Path, etc: Path) -> Iterator[Finding]:
    """What `bitville php check` says, and whether any pool loads the client."""
    about = "PHP client"
    if shutil.which("php") is None:
        do = "where only FPM is: php -r is a package of its own, php-cli"
        yield Finding(about, "warning", "there is no php here to ask what the client makes of its settings", do)
    else:
        _, problems = php_settings.check(ini, SOURCE / "src")
        for what in problems:
            yield Finding(about, "warning" if "unknown key" in what else "problem", what, "docs/php.md")
        if not problems:
            yield Finding(about, "ok", f"{ini}: on, and finds its agent")
    yield from (
        Finding(about, "warning", f"{folder} is switched off", f"bitville php on --dir {folder}")
        for folder in php.clients(etc)
        if (folder / php.OFF).exists()
    )
    named = [one for one in php.named_in(php.configuration(etc)) if php.is_ours(one.value)]
    if named:
        yield Finding(about, "ok", f"loaded by {', '.join(one.where for one in named)}")
    else:
        do = "bitville php install prints the line; .user.ini and Apache's files are not looked at"
        yield Finding(about, "warning", f"no configuration below {etc} has it as auto_prepend_file", do)


def finding_lines(found: Sequence[Finding], width: int) -> Iterator[str]:
    """A line each and what to do below it; then how many there are."""
    wide = max(len(one.about) for one in found)
    space = " " * (9 + wide + 2)
    for one in found:
        head = f"{_WORDS[one.level]:<9}{one.about:<{wide}}  "
        yield from textwrap.wrap(shown(one.what), max(width, 60), initial_indent=head, subsequent_indent=space)
        if one.do:
            yield from textwrap.wrap(
                one.do, max(width, 60), initial_indent=f"{space}do: ", subsequent_indent=f"{space}    "
            )
    counted = Counter(str(one.level) for one in found)
    told = [
        f"{counted[level]} {level}{'s'[: counted[level] > 1]}" for level in ("problem", "warning") if counted[level]
    ]
    yield ""
    yield ", ".join(told) or "all is well"
