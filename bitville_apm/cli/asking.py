"""Asking a collector's API from the command line: by a read key from anywhere, without one on its own machine.

Whoever may write the collector's `main.db` may make keys and people there anyway. On that machine a command needs no
key therefore: it opens a session of an administrator for a minute, asks, and ends it. Elsewhere, and for everybody
else, `--key`, `BITVILLE_KEY` or `--key-file` hold a key of scope `read`, which sees its project and no other.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import secrets
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs
import msgspec

from bitville_apm import ini, limits
from bitville_apm.cli import inis, keyring
from bitville_apm.cli.errors import NotDone
from bitville_apm.collector.auth import digest
from bitville_apm.collector.config import CollectorConfig
from bitville_apm.ini import ConfigError
from bitville_apm.store.sqlite.files import StoreError


class Declined(NotDone):
    """Why there is no answer, and what to do: one line. `status` is what the collector answered, where it did."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


def add_options(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, and as whom."""
    group = parser.add_argument_group(
        "the collector", "on its own machine, as its user or root, none of these is needed"
    )
    group.add_argument("--url", type=_url, help="where it is (BITVILLE_URL; default: as collector.ini says)")
    group.add_argument("--key", help="a key of scope read (BITVILLE_KEY; better than on a command line others can see)")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds it (BITVILLE_KEY_FILE)")
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificates to believe instead of the system's, PEM")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help=f"collector.ini (default: {inis.ETC}/collector.ini if it is there)"
    )


def _url(text: str) -> str:
    try:
        return ini.url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@attrs.frozen
class Collector:
    """A collector that can be asked; `headers` say who asks."""

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    context: ssl.SSLContext | None = None
    seconds: float = limits.ASK_S

    def ask(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """What a path below the url is answered: status, headers (names in lower case), body. Raises `Declined`."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        connection = (
            http.client.HTTPSConnection(host, port, timeout=self.seconds, context=self.context)
            if secure
            else http.client.HTTPConnection(host, port, timeout=self.seconds)
        )
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=dict(self.headers))
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Declined(f"no collector answers at {self.url}: {why}") from None
        finally:
            connection.close()

    def get(self, path: str, **parameters: object) -> bytes:
        """The body of an answer. Parameters that are None are left out, `from_` loses its underscore.

        Raises `Declined`.
        """
        given = {name.rstrip("_"): str(value) for name, value in parameters.items() if value is not None}
        status, _, body = self.ask(f"/api/{path}" + (f"?{urlencode(given)}" if given else ""))
        if status != 200:
            raise Declined(f"the collector at {self.url} says {status}: {_message(body)}", status)
        return body

    def json(self, path: str, **parameters: object) -> Any:
        """The same, read. Raises `Declined`."""
        body = self.get(path, **parameters)
        try:
            return msgspec.json.decode(body)
        except msgspec.MsgspecError:
            raise Declined(f"what answers at {self.url} is no collector") from None


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "nothing more"


@contextlib.contextmanager
def collector(given: argparse.Namespace) -> Iterator[Collector]:
    """The collector that the options and the environment name. Raises `ConfigError`, `Declined`, `PermissionError`."""
    key = _key(given)
    url = given.url or os.environ.get("BITVILLE_URL")
    if key is not None:
        if url is None:
            url = _own_url(inis.collector(given))
        yield Collector(_url_of(url), {"Authorization": f"Bearer {key}"}, trusting(given.ca))
        return
    if url is not None:
        raise Declined(f"{url} wants to know who asks: give a key of scope read in --key-file, BITVILLE_KEY or --key")
    settings = inis.collector(given)
    with contextlib.ExitStack() as stack:
        try:
            main = stack.enter_context(keyring.opened(settings))
        except (ConfigError, StoreError, NotDone) as error:
            raise Declined(f"{error}; or ask from anywhere with --url and --key-file") from None
        admins = [user for user in main.users() if user["role"] == "admin"]
        admins.sort(key=lambda user: (user["projects"] is not None, user["name"]))
        if not admins:
            raise Declined("there is no administrator yet; bitville user add, or ask with a key")
        token = secrets.token_urlsafe(32)
        main.add_session(digest(token), admins[0]["name"], keyring.now() + limits.ASK_SESSION_S)
        try:
            yield own(settings, {"Cookie": f"bitville_session={token}"})
        finally:
            main.drop_session(digest(token))


def _key(given: argparse.Namespace) -> str | None:
    """The key that was given; None without one. Raises `ConfigError`."""
    file = given.key_file or os.environ.get("BITVILLE_KEY_FILE")
    key: str | None = given.key
    if key is None and given.key_file is None:
        key = os.environ.get("BITVILLE_KEY")
    if key is None and file:
        try:
            key = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return key or None


def _url_of(text: str) -> str:
    try:
        return ini.url(text)
    except ValueError as error:
        raise Declined(f"{text!r}: {error}") from None


def own(settings: CollectorConfig, headers: Mapping[str, str], seconds: float = limits.ASK_S) -> Collector:
    """The collector of this machine. Raises `ConfigError`."""
    certificate = settings.collector.certificate
    return Collector(_own_url(settings), headers, None if certificate is None else _own_context(certificate), seconds)


def _own_url(settings: CollectorConfig) -> str:
    """Where the collector of this machine listens; by the loopback when it listens everywhere."""
    section = settings.collector
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(section.listen.host, section.listen.host)  # noqa: S104 - compared
    return f"{'https' if section.certificate else 'http'}://{attrs.evolve(section.listen, host=host)}"


def trusting(ca: Path | None) -> ssl.SSLContext:
    """Believes the certificates in this file, or the system's. Raises `ConfigError`."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(ca or "", f"cannot be used: {getattr(error, 'strerror', None) or error}") from None


def _own_context(certificate: Path) -> ssl.SSLContext:
    """Believes this collector's own certificate, by whatever name it is asked, and no other."""
    context = trusting(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context
