"""`bitville key`: make, list and revoke the keys of agents and programs. A key belongs to one project."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from bitville_apm.cli import inis, keyring
from bitville_apm.cli.errors import NotDone
from bitville_apm.collector import auth


def add_to(commands: Any) -> None:
    """The command and its actions."""
    key = commands.add_parser("key", help="keys of agents and programs")
    actions = key.add_subparsers(metavar="ACTION", required=True)

    new = actions.add_parser("new", help="make a key; it is printed once, alone on the last line")
    new.add_argument("--project", required=True, type=project, help="what is sent with the key belongs to this project")
    new.add_argument(
        "--scope",
        type=_scopes,
        default="ingest",
        help="what it may do: ingest, read, admin, separated by commas (default: ingest)",
    )
    new.add_argument("--days", type=_days, metavar="N", help="how long it is valid (default: until revoked)")
    inis.add_options(new, "collector.ini")
    new.set_defaults(run=_new)

    listing = actions.add_parser("list", help="all keys; the secrets themselves are not kept")
    inis.add_options(listing, "collector.ini")
    listing.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", help="end a key; a running collector refuses it within a second")
    revoke.add_argument("id", help="the key's id, the middle part of bv_<id>_<secret>")
    inis.add_options(revoke, "collector.ini")
    revoke.set_defaults(run=_revoke)


def project(text: str) -> str:
    """A project's name, for argparse."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", text):
        raise argparse.ArgumentTypeError("lower-case letters, digits, - _ . are wanted, at most 64")
    return text


def _scopes(text: str) -> str:
    scopes = [scope.strip() for scope in text.split(",")]
    wrong = [scope for scope in scopes if scope not in auth.SCOPES]
    if wrong:
        raise argparse.ArgumentTypeError(f"unknown scope {wrong[0]!r}; there are {', '.join(auth.SCOPES)}")
    return ",".join(s for s in auth.SCOPES if s in scopes)


def _days(text: str) -> float:
    days = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("a number of days above 0 is wanted")
    return days


def _new(given: argparse.Namespace) -> int:
    key, now = auth.new_key(), keyring.now()
    expires = None if given.days is None else now + given.days * 86_400
    with keyring.opened(inis.collector(given)) as main:
        main.add_key(key.id, key.hash, given.project, given.scope, now, expires)
    if given.json:
        told = {"id": key.id, "key": key.text, "project": given.project, "scopes": given.scope, "expires": expires}
        print(json.dumps(told))
        return 0
    if sys.stdout.isatty():
        print(f"Key {key.id} of project {given.project} ({given.scope}), valid until {keyring.when(expires)}.")
        print("It is shown this once:")
    print(key.text)
    return 0


def _list(given: argparse.Namespace) -> int:
    with keyring.opened(inis.collector(given)) as main:
        keyring.show(main.keys(), ("id", "project", "scopes", "created", "expires", "revoked"), given.json)
    return 0


def _revoke(given: argparse.Namespace) -> int:
    id = auth.parts_of(given.id)
    with keyring.opened(inis.collector(given)) as main:
        known = main.revoke_key(id[0] if id else given.id, keyring.now())
    if not known:
        raise NotDone(f"there is no key {given.id!r}; bitville key list shows them")
    print(json.dumps({"revoked": given.id}) if given.json else f"revoked {given.id}")
    return 0
