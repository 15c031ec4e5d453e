"""What a collector leaves in its data directory so that the first steps need no command: a key and a link.

`local.key` is an ingest key for the agent on the same machine, `login.url` a one-time link for whoever set it up.
Both are secrets in files that only the daemon's user (and, for the key, its group) can read.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from bitville_apm import files, limits
from bitville_apm.collector import auth
from bitville_apm.store.sqlite import Main

PROJECT = "default"
USER = "admin"


def ensure_local_key(main: Main, path: Path, now: float) -> None:
    """Make sure that `path` holds a key that may send; write a new one where it does not. Raises `OSError`."""
    try:
        parts = auth.parts_of(path.read_text().strip())
    except (FileNotFoundError, UnicodeDecodeError):
        parts = None
    row = main.key(parts[0]) if parts else None
    if parts and row and hmac.compare_digest(row["hash"], auth.digest(parts[1])) and auth.is_live(row, now):
        return
    key = auth.new_key()
    main.add_key(key.id, key.hash, PROJECT, "ingest", now, None)
    files.replace(path, key.text.encode() + b"\n", mode=0o640)


def ensure_way_in(main: Main, path: Path, base_url: str, now: float) -> str | None:
    """The link that logs the first user in, also written to `path`; None once anybody has logged in.

    Until then every start gives a new link. Raises `OSError`.
    """
    users = main.users()
    if any(user["seen"] is not None for user in users):
        path.unlink(missing_ok=True)
        return None
    if not users:
        main.add_user(USER, "admin", None, now)
        users = main.users()
    admins = [user["name"] for user in users if user["role"] == "admin"]
    if not admins:
        return None
    token, hashed = auth.new_link()
    main.add_link(hashed, admins[0], now + limits.LOGIN_LINK_S)
    url = f"{base_url}/login/{token}"
    files.replace(path, url.encode() + b"\n", mode=0o600)
    return url
