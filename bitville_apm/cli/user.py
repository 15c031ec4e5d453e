"""`bitville user`: a way in for people."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bitville_apm import limits
from bitville_apm.cli import keyring
from bitville_apm.collector import auth


def add_to(commands: Any) -> None:
    """The command and its actions."""
    user = commands.add_parser("user", help="people who look at the pages")
    actions = user.add_subparsers(metavar="ACTION", required=True)

    link = actions.add_parser("link", help="print a new link that logs a user in, once; alone on the last line")
    link.add_argument("name", nargs="?", default="admin", help="the user (default: admin)")
    keyring.add_options(link)
    link.set_defaults(run=_link)

    listing = actions.add_parser("list", help="all users")
    keyring.add_options(listing)
    listing.set_defaults(run=_list)


def _link(given: argparse.Namespace) -> int:
    settings = keyring.read(given)
    token, hashed = auth.new_link()
    with keyring.opened(settings) as main:
        if main.user(given.name) is None:
            print(f"bitville: there is no user {given.name!r}; bitville user list shows them", file=sys.stderr)
            return 1
        main.add_link(hashed, given.name, keyring.now() + limits.LOGIN_LINK_S)
    url = f"{settings.collector.base_url}/login/{token}"
    print(json.dumps({"user": given.name, "url": url}) if given.json else url)
    return 0


def _list(given: argparse.Namespace) -> int:
    with keyring.opened(keyring.read(given)) as main:
        rows = [{**row, "projects": row["projects"] or "all"} for row in main.users()]
        keyring.show(rows, ("name", "role", "projects", "created", "seen"), given.json)
    return 0
