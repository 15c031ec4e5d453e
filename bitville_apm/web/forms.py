"""Fields of forms: times, and menus of hosts and projects."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.template import Tag, tags

from bitville_apm.web import words


def local(at: float | None) -> str:
    """A time for a form's field: UTC, which the script puts into the reader's zone."""
    return "" if at is None else words.iso(at)[:19]


def hosts_choice(hosts: Sequence[str], chosen: str | None) -> Tag:
    """A menu of hosts for a form."""
    return _choice("host", [("", "any"), *_with(hosts, chosen)], chosen)


def projects_choice(projects: Sequence[str], chosen: str | None) -> Tag:
    """A menu of projects for a form that wants one."""
    return _choice("project", _with(projects, chosen), chosen)


def _with(names: Sequence[str], chosen: str | None) -> list[tuple[str, str]]:
    more = [chosen] if chosen is not None and chosen not in names else []
    return [(name, name) for name in (*more, *names)]


def _choice(field: str, choices: Sequence[tuple[str, str]], chosen: str | None) -> Tag:
    options = []
    for value, label in choices:
        option = tags.option(label, value=value)
        options.append(option(selected="selected") if value == chosen else option)
    return tags.select(options, name=field)
