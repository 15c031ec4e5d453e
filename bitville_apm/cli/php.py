"""`bitville php`: puts the PHP client where pools can read it, takes it away, and switches it off and on.

A page must never die of this. So an installed client is a few files per version, whose name tells their content, and
`listener.php` names the one in force: a pool sees the old version whole or the new one whole. What
`auto_prepend_file` names is a stub that upgrades leave alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bitville_apm.cli import php_settings
from bitville_apm.cli.php_files import COMPAT, LISTENER, SOURCE, STUB, copy_to, put, versioned
from bitville_apm.cli.php_settings import Refused

CHAIN, OFF = "chain.php", "off"
STUB_MARK = "The stub for auto_prepend_file. Upgrades never touch it."

SETTING = re.compile(
    r"^[ \t]*(?:auto_prepend_file[ \t]*=|php(?:_admin)?_value[ \t]*"
    r"(?:\[[ \t]*auto_prepend_file[ \t]*\][ \t]*=|[ \t]auto_prepend_file[ \t]))[ \t]*([^;\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
"""auto_prepend_file in php.ini, .user.ini, a pool's file and Apache's."""


class Named(NamedTuple):
    """One auto_prepend_file that a configuration file sets."""

    where: str
    value: str


def add_to(commands: Any) -> None:
    """The command and its actions."""
    php = commands.add_parser("php", help="the PHP client")
    actions = php.add_subparsers(metavar="ACTION", required=True)
    path = actions.add_parser("path", help="print the client's folder, for auto_prepend_file = <folder>/prepend.php")
    path.set_defaults(run=_path)
    install = actions.add_parser("install", help="copy the client to where pools can read it; also upgrades it")
    install.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="the folder, such as /usr/share/bitville-apm/php"
    )
    install.add_argument("--config", type=Path, action="append", metavar="FILE", help="the pool's own configuration")
    install.add_argument("--chain", metavar="FILE", help="the auto_prepend_file to go on to; `none` for none")
    install.add_argument("--stub", action="store_true", help="replace prepend.php too")
    install.set_defaults(run=_guarded, act=_install)
    uninstall = actions.add_parser("uninstall", help="remove an installed client, once no configuration names it")
    uninstall.add_argument("--from", dest="dir", type=Path, required=True, metavar="DIR", help="the folder")
    uninstall.add_argument("--stub", action="store_true", help="the stub too: every pool has been reloaded")
    uninstall.set_defaults(run=_guarded, act=_uninstall)
    trigger = actions.add_parser("trigger", help="print a header that asks for one request's deep profile")
    trigger.add_argument(
        "--ini",
        type=Path,
        default=php_settings.INI,
        metavar="FILE",
        help=f"where xhprof_secret is (default: {php_settings.INI})",
    )
    trigger.add_argument(
        "--minutes", type=int, default=10, metavar="N", help="how long it is valid, 1 to 60 (default: 10)"
    )
    trigger.set_defaults(run=_guarded, act=_trigger)
    check = actions.add_parser("check", help="what the client makes of its settings, and what it finds at its socket")
    check.add_argument(
        "--ini", type=Path, default=php_settings.INI, metavar="FILE", help=f"the settings (default: {php_settings.INI})"
    )
    check.set_defaults(run=_guarded, act=_check)
    for word, text in (("off", "measure nothing any more, in every pool, at once"), ("on", "measure again")):
        switch = actions.add_parser(word, help=text)
        switch.add_argument("--dir", type=Path, action="append", metavar="DIR", help="this client only")
        switch.set_defaults(run=_guarded, act=_switch, off=word == "off")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print JSON, for programs")
        action.add_argument(
            "--etc", type=Path, default=Path("/etc"), metavar="DIR", help="where PHP's configuration is (default: /etc)"
        )


def _path(given: argparse.Namespace) -> int:
    print(json.dumps({"path": str(SOURCE)}) if given.json else SOURCE)
    return 0


def _guarded(given: argparse.Namespace) -> int:
    try:
        return int(given.act(given))
    except OSError as error:
        raise Refused(why(error)) from error


def why(error: Exception) -> str:
    """What went wrong, and what to do where that is known."""
    if not isinstance(error, OSError):
        return str(error)
    hint = "; run this as the owner of the folder (sudo)" if isinstance(error, PermissionError) else ""
    return f"{error.filename}: {error.strerror}{hint}"


def _tell(given: argparse.Namespace, told: dict[str, Any], lines: list[str]) -> None:
    if given.json or lines:
        print(json.dumps(told) if given.json else "\n".join(lines))


def named_in(files: list[Path]) -> list[Named]:
    """Every auto_prepend_file that these files set."""
    found = []
    for path in files:
        text = path.read_text(errors="replace")
        for setting in SETTING.finditer(text):
            value = setting[1].strip().strip("\"'").strip()
            line = text.count("\n", 0, setting.start()) + 1
            if value and value.lower() != "none":
                found.append(Named(f"{path}:{line}", value))
    return found


def configuration(etc: Path) -> list[Path]:
    """The files of all PHP versions and pools: Debian's /etc/php/*, and /etc/php.ini and its neighbours elsewhere."""
    found: set[Path] = set()
    for top in etc.glob("php*"):
        candidates = top.rglob("*") if top.is_dir() else [top]
        found.update(path for path in candidates if path.suffix in (".ini", ".conf") and path.is_file())
    return sorted(found)


def effective() -> list[Named]:
    """What the command line's PHP is set to, if there is one."""
    ask = [shutil.which("php") or "php", "-d", "display_errors=0", "-r", "echo ini_get('auto_prepend_file');"]
    value = ""
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        value = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False).stdout.strip()  # noqa: S603
    return [Named("php -i", value)] if value else []


def is_ours(value: str) -> bool:
    """Whether a path leads to a stub or a listener of this client."""
    path = Path(value)
    path = path.with_name(STUB) if path.name == LISTENER else path
    with contextlib.suppress(OSError):
        return path.is_absolute() and STUB_MARK in path.read_text(errors="replace")
    return False


def chained(given: argparse.Namespace) -> Named | None:
    """The foreign auto_prepend_file to go on to."""
    if given.chain is not None:
        return None if given.chain == "none" else Named("--chain", given.chain)
    files = configuration(given.etc) if given.config is None else given.config
    found = named_in(files)
    if given.config is None:
        found += effective()
    foreign = {named.value: named for named in reversed(found) if not is_ours(named.value)}
    if len(foreign) > 1:
        places = "; ".join(f"{named.value} in {named.where}" for named in foreign.values())
        raise Refused(
            f"pools have several auto_prepend_file: {places}. Install one folder for each, with --config and the "
            "pool's file, or choose with --chain"
        )
    return next(iter(foreign.values()), None)


def _install(given: argparse.Namespace) -> int:
    folder = given.to.absolute()
    if folder.resolve() == SOURCE.resolve():
        raise Refused(f"{folder} is the package itself; choose another folder, such as /usr/share/bitville-apm/php")
    chain, link, stub = chained(given), folder / CHAIN, folder / STUB
    if chain is not None and is_ours(chain.value):
        raise Refused(f"{chain.value} is this client: it would chain to itself")
    if chain is not None and stub.exists() and not given.stub and CHAIN not in stub.read_text(errors="replace"):
        raise Refused(f"{stub} is of a version that knows no chain; add --stub to replace it")
    copy_to(folder, given.stub)
    if chain is not None:
        quoted = chain.value.replace("\\", "\\\\").replace("'", "\\'")
        put(link, f"<?php\n// The auto_prepend_file that was there before; see prepend.php.\nrequire '{quoted}';\n")
    elif given.chain == "none":
        link.unlink(missing_ok=True)
    line = f"php_admin_value[auto_prepend_file] = {stub}"
    lines = [f"The client is in {folder}."]
    if not any(_same(named.value, stub) for named in named_in(configuration(given.etc) + (given.config or []))):
        lines += ["Put this line into the pool's configuration, and reload PHP-FPM:", line]
    if chain is not None:
        lines += [f"It goes on to {chain.value} ({chain.where}): take that line out, PHP knows one only."]
    if (folder / OFF).exists():
        lines += [f"It is switched off; `bitville php on --dir {folder}` switches it on."]
    told = {"folder": str(folder), "line": line, "chain": chain.value if chain else None}
    _tell(given, told, lines)
    return 0


def _same(value: str, path: Path) -> bool:
    return Path(value).is_absolute() and Path(value).resolve() == path.resolve()


def _uninstall(given: argparse.Namespace) -> int:
    folder = given.dir.absolute()
    if folder.resolve() == SOURCE.resolve() or not is_ours(str(folder / STUB)):
        raise Refused(f"{folder} is not a client that `bitville php install` made")
    named = [n for n in named_in(configuration(given.etc)) if any(_same(n.value, folder / f) for f in (STUB, LISTENER))]
    if named:
        places = ", ".join(n.where for n in named)
        chain = folder / CHAIN
        back = f" (it goes on to what {chain} names: put that back)" if chain.exists() else ""
        raise Refused(
            f"auto_prepend_file still names it in {places}: without it PHP answers every page with nothing. Take that "
            f"line out{back}, reload PHP-FPM, then uninstall"
        )
    for path in (folder / LISTENER, *versioned(folder), folder / COMPAT, folder / OFF):
        path.unlink(missing_ok=True)
    lines = [f"The client in {folder} is removed."]
    if given.stub:
        (folder / CHAIN).unlink(missing_ok=True)
        (folder / STUB).unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
    else:
        lines += [
            "Its stub stays: a pool that was not reloaded, a .user.ini or .htaccess may still name it. After that:",
            f"bitville php uninstall --from {folder} --stub",
        ]
    _tell(given, {"removed": str(folder), "stub": not given.stub}, lines)
    return 0


def _check(given: argparse.Namespace) -> int:
    told, problems = php_settings.check(given.ini, SOURCE / "src")
    lines = [f"{key}: {json.dumps(value)}" for key, value in told.items() if key != "unknown"]
    _tell(given, {**told, "problems": problems}, lines)
    for problem in problems:
        print(f"bitville: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _trigger(given: argparse.Namespace) -> int:
    header = php_settings.header(given.ini, given.minutes)
    _tell(given, {"header": header}, [header])
    return 0


def clients(etc: Path) -> Iterator[Path]:
    """The folders of all clients that configuration names, and the package's own."""
    yield from {Path(n.value).resolve().parent: None for n in named_in(configuration(etc)) if is_ours(n.value)}
    yield SOURCE


def _switch(given: argparse.Namespace) -> int:
    folders = dict.fromkeys(path.resolve() for path in given.dir or clients(given.etc))
    done, failed = [], {}
    for folder in folders:
        try:
            if not (folder / LISTENER).is_file():
                raise Refused(f"there is no client in {folder}")
            if given.off:
                put(folder / OFF, "Nothing is measured while this file is here: bitville php on\n")
            else:
                (folder / OFF).unlink(missing_ok=True)
            done.append(str(folder))
        except (OSError, Refused) as error:
            failed[str(folder)] = why(error)
    word = "off" if given.off else "on"
    _tell(given, {"state": word, "folders": done, "failed": failed}, [f"{word}: {name}" for name in done])
    for message in failed.values():
        print(f"bitville: {message}", file=sys.stderr)
    return 1 if failed else 0
