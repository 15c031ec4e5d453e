"""What the PHP client makes of its settings, for `bitville php check`, and the header that asks for a deep profile."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from bitville_apm.ini import ConfigError

INI = Path("/etc/bitville-apm/profiling.ini")

KEY = re.compile(r"[ \t]*([^;#\[=\s][^=]*?)[ \t]*=")
"""The key of a line of a settings file."""

READ = (
    "namespace BitvilleApm; require $argv[1] . '/Limits.php'; require $argv[1] . '/Config.php';"
    "echo json_encode(['known' => array_merge(array_keys(Config::KEYS), array_keys(Config::ALIASES), Config::OTHERS),"
    " 'config' => get_object_vars(Config::load()), 'excimer' => extension_loaded('excimer')]);"
)
"""Asks the client itself, in the command line's PHP, so that both read a file alike."""


class Refused(ConfigError):
    """Something a person has to do first; says what."""

    def __init__(self, why: str) -> None:
        Exception.__init__(self, why)


def check(ini: Path, source: Path) -> tuple[dict[str, Any], list[str]]:
    """What the client in `source` finds with this file, and what is wrong with it, a sentence each.

    The first four names are those of `bitville_apm_check_socket()`.
    """
    text = ini.read_text(errors="replace")
    command = [shutil.which("php") or "php", "-d", "display_errors=0", "-r", READ, str(source)]
    environment = {**os.environ, "BITVILLE_APM_INI": str(ini.absolute())}
    asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)  # noqa: S603
    try:
        found = json.loads(asked.stdout)
    except ValueError as error:
        raise Refused(f"PHP does not load {source}: {asked.stderr.strip() or asked.stdout.strip()}") from error
    config = found["config"]
    socket, spool = Path(config["socket"]), Path(config["spool"])
    keys = [(number, key[1]) for number, line in enumerate(text.splitlines(), 1) if (key := KEY.match(line))]
    unknown = [{"line": number, "key": key} for number, key in keys if key.lower() not in found["known"]]
    told = {
        "socket_path": str(socket),
        "exists": socket.exists(),
        "is_socket": socket.is_socket(),
        "writable_dir": os.access(spool, os.W_OK),
        "spool": str(spool),
        "enabled": config["enabled"],
        "excimer": found["excimer"],
        "unknown": unknown,
    }
    problems = [f"{ini}:{each['line']}: unknown key {each['key']}" for each in unknown]
    if not told["enabled"]:
        problems.append(f"it is off: {ini} has no valid `profiling_enabled = 1`")
    if not told["is_socket"]:
        why_not = "is no socket" if told["exists"] else "does not exist"
        problems.append(f"{socket} {why_not}: the agent does not run, or listens elsewhere")
    if not told["writable_dir"]:
        problems.append(f"{spool} cannot be written: records are lost while the agent is away")
    return told, problems


def header(ini: Path, minutes: int) -> str:
    """The header that makes the client profile a request deeply, signed with the file's `xhprof_secret`."""
    found = re.search(r"^[ \t]*xhprof_secret[ \t]*=[ \t]*(\S.*?)[ \t]*$", ini.read_text(), re.MULTILINE)
    secret = found[1].strip("\"'") if found else ""
    if not secret:
        raise Refused(f"{ini} has no xhprof_secret: set one, and xhprof_enabled = on")
    if not 1 <= minutes <= 60:
        raise Refused("--minutes is 1 to 60")
    until = int(time.time()) + 60 * minutes
    signed = hmac.new(secret.encode(), f"bitville-profile {until}".encode(), hashlib.sha256).hexdigest()
    return f"X-Bitville-Profile: {until}.{signed}"
