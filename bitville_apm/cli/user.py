"""`bitville user`: people who look at the pages. A viewer looks, an admin also cleans up and backs up."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
from typing import Any

from bitville_apm import limits
from bitville_apm.cli import inis, keyring
from bitville_apm.cli.errors import NotDone
from bitville_apm.cli.key import project
from bitville_apm.collector import auth, passwords
from bitville_apm.collector.config import CollectorConfig
from bitville_apm.store.sqlite import Main


def add_to(commands: Any) -> None:
    """The command and its actions."""
    user = commands.add_parser("user", help="people who look at the pages")
    actions = user.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="add a user, and print a link that logs them in, once")
    add.add_argument("name", type=_name, help="what they log in as")
    add.add_argument("--role", choices=sorted(auth.ROLES), default="viewer", help="default: viewer")
    add.add_argument("--projects", type=_projects, metavar="A,B", help="what they may see (default: everything)")
    inis.add_options(add, "collector.ini")
    add.set_defaults(run=_add)

    password = actions.add_parser(
        "password", help="set a user's password: asked for twice, or one line of standard input; ends their sessions"
    )
    password.add_argument("name", help="the user")
    inis.add_options(password, "collector.ini")
    password.set_defaults(run=_password)

    link = actions.add_parser("link", help="print a new link that logs a user in, once; alone on the last line")
    link.add_argument("name", nargs="?", default="admin", help="the user (default: admin)")
    inis.add_options(link, "collector.ini")
    link.set_defaults(run=_link)

    remove = actions.add_parser("remove", help="remove a user; their sessions and links end at once")
    remove.add_argument("name", help="the user")
    inis.add_options(remove, "collector.ini")
    remove.set_defaults(run=_remove)

    listing = actions.add_parser("list", help="all users")
    inis.add_options(listing, "collector.ini")
    listing.set_defaults(run=_list)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}", text):
        raise argparse.ArgumentTypeError("letters, digits, _ . @ + - are wanted, at most 64")
    return text


def _projects(text: str) -> str:
    return ",".join(dict.fromkeys(project(name.strip()) for name in text.split(",")))


def _add(given: argparse.Namespace) -> int:
    settings = inis.collector(given)
    with keyring.opened(settings) as main:
        if main.user(given.name) is not None:
            raise NotDone(f"there is a user {given.name!r} already")
        main.add_user(given.name, given.role, given.projects, keyring.now())
        url = _new_link(main, given.name, settings)
    if given.json:
        print(json.dumps({"user": given.name, "role": given.role, "projects": given.projects, "url": url}))
        return 0
    print(f"Added {given.name} ({given.role}, {given.projects or 'all projects'}). This link logs them in, once:")
    print(url)
    return 0


def _password(given: argparse.Namespace) -> int:
    with keyring.opened(inis.collector(given)) as main:
        _known(main, given.name)
        main.set_password(given.name, passwords.hashed(_asked()))
    said = f"{given.name} has a new password; their sessions have ended"
    print(json.dumps({"user": given.name}) if given.json else said)
    return 0


def _asked() -> str:
    """A new password. Raises `NotDone` when it is none."""
    if sys.stdin.isatty():
        text = getpass.getpass("New password: ")
        if text != getpass.getpass("Once more: "):
            raise NotDone("the two differ; nothing was changed")
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if not limits.PASSWORD_CHARACTERS <= len(text) <= limits.PASSWORD_CHARACTERS_MOST:
        wanted = f"{limits.PASSWORD_CHARACTERS} to {limits.PASSWORD_CHARACTERS_MOST} characters"
        raise NotDone(f"a password of {wanted} is wanted; nothing was changed")
    return text


def _link(given: argparse.Namespace) -> int:
    settings = inis.collector(given)
    with keyring.opened(settings) as main:
        _known(main, given.name)
        url = _new_link(main, given.name, settings)
    print(json.dumps({"user": given.name, "url": url}) if given.json else url)
    return 0


def _remove(given: argparse.Namespace) -> int:
    with keyring.opened(inis.collector(given)) as main:
        _known(main, given.name)
        if not any(user["role"] == "admin" and user["name"] != given.name for user in main.users()):
            raise NotDone("this is the last admin; add another first (--role admin)")
        main.remove_user(given.name)
    print(json.dumps({"removed": given.name}) if given.json else f"removed {given.name}")
    return 0


def _list(given: argparse.Namespace) -> int:
    with keyring.opened(inis.collector(given)) as main:
        rows = [
            {**row, "projects": row["projects"] or "all", "password": "yes" if row["password"] else "no"}
            for row in main.users()
        ]
        keyring.show(rows, ("name", "role", "projects", "password", "created", "seen"), given.json)
    return 0


def _new_link(main: Main, name: str, settings: CollectorConfig) -> str:
    token, hashed = auth.new_link()
    main.add_link(hashed, name, keyring.now() + limits.LOGIN_LINK_S)
    return f"{settings.collector.base_url}/login/{token}"


def _known(main: Main, name: str) -> None:
    if main.user(name) is None:
        raise NotDone(f"there is no user {name!r}; bitville user list shows them")
