"""collector.ini and the environment as frozen values.

Every key has its default here; `etc/collector.ini` explains each. How files and environment are read is in `ini.py`.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from bitville_apm import ini, limits
from bitville_apm.ini import Address, ConfigError, option
from bitville_apm.peers import Networks, networks


@attrs.frozen
class CollectorSection:
    """`[collector]` in collector.ini."""

    listen: Address = option(Address("127.0.0.1", 8443), ini.address)
    data: Path = option(Path("/var/lib/bitville-apm-collector"), ini.path)
    certificate: Path | None = option(None, ini.optional_path, was="BITVILLE_TLS_CERT_PATH")
    private_key: Path | None = option(None, ini.optional_path, was="BITVILLE_TLS_KEY_PATH")
    allow: Networks = option((), networks)
    trusted_proxies: Networks = option((), networks)
    udp: Address | None = option(None, ini.optional_address)
    insecure: bool = option(False, ini.yes_no)

    @property
    def base_url(self) -> str:
        """Where a browser finds the pages; by this machine's name when it listens on every address."""
        everywhere = self.listen.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        shown = attrs.evolve(self.listen, host=socket.gethostname()) if everywhere else self.listen
        return f"{'https' if self.certificate else 'http'}://{shown}"


def _days(text: str) -> int:
    days = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= days <= limits.DAYS_MOST:
        raise ValueError(f"whole days are wanted, 1 to {limits.DAYS_MOST}")
    return days


def _gigabytes(text: str) -> float | None:
    if not text:
        return None
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not limits.GIGABYTES_LEAST <= given < 2**30:
        raise ValueError(f"a number of at least {limits.GIGABYTES_LEAST} is wanted, or nothing for no cap")
    return given


@attrs.frozen
class RetentionSection:
    """`[retention]` in collector.ini."""

    days: int = option(limits.DAYS, _days)
    gigabytes: float | None = option(None, _gigabytes)


def _webhook(text: str) -> str:
    """The address whole: what it ends with may matter. Plain http only for this machine."""
    if text:
        ini.url(text)
    return text


def _page(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("the address of the pages is wanted, such as https://apm.example.com")
    return text.rstrip("/")


def _argv(text: str) -> tuple[str, ...]:
    """A command's words, as a shell would split them."""
    words = tuple(shlex.split(text))
    if words and not words[0].startswith("/"):
        raise ValueError("a program with its absolute path is wanted, and its arguments; no shell reads it")
    return words


def _mails(text: str) -> tuple[str, ...]:
    mails = tuple(mail.strip() for mail in text.split(",") if mail.strip())
    for mail in mails:
        _mail(mail)
    return mails


def _mail(text: str) -> str:
    if not re.fullmatch(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,255}", text):
        raise ValueError("addresses such as ops@example.com are wanted")
    return text


def _per_hour(text: str) -> int:
    count = int(text) if text.isdecimal() and len(text) < 5 else 0
    if not count:
        raise ValueError("a number of alerts is wanted, 1 or more")
    return count


@attrs.frozen
class AlertsSection:
    """`[alerts]` in collector.ini: who is told of spikes."""

    base_url: str = option("", _page)
    webhook: str = option("", _webhook, secret=True)
    ca: Path | None = option(None, ini.optional_path)
    command: tuple[str, ...] = option((), _argv)
    command_input: str = option("markdown", ini.one_of("markdown", "json"))
    mail_to: tuple[str, ...] = option((), _mails)
    mail_from: str = option("bitville@localhost", _mail)
    mail_server: Address = option(Address("127.0.0.1", 25), ini.address)
    mail_user: str = option("")
    mail_password: str = option("", secret=True)
    mail_insecure: bool = option(False, ini.yes_no)
    over: bool = option(True, ini.yes_no)
    per_hour: int = option(limits.ALERTS_PER_HOUR, _per_hour)


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,255}", text):
        raise ValueError("the name or address of a machine is wanted, such as graylog.example.com; the port is a key")
    return text


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= port <= 65535:
        raise ValueError("a port is wanted, 1 to 65535")
    return port


def _facility(text: str) -> str:
    if not text or len(text) > limits.NAME_CHARACTERS:
        raise ValueError(f"a name of 1 to {limits.NAME_CHARACTERS} characters is wanted")
    return text


@attrs.frozen
class GraylogSection:
    """`[graylog]` in collector.ini: where everything that is received goes too."""

    enabled: bool = option(False, ini.yes_no, was="GRAYLOG_ENABLED")
    host: str = option("127.0.0.1", _host, was="GRAYLOG_HOST")
    port: int = option(limits.GRAYLOG_PORT, _port, was="GRAYLOG_PORT")
    protocol: str = option("tcp", ini.one_of("tcp", "tls", "udp", "http", "https"))
    ca: Path | None = option(None, ini.optional_path)
    facility: str = option("bitville-apm", _facility, was="GRAYLOG_FACILITY")
    spikes: bool = option(True, ini.yes_no)

    @property
    def address(self) -> Address:
        """Host and port."""
        return Address(self.host, self.port)

    @property
    def place(self) -> str:
        """For people: where, and how."""
        return f"{self.address} by {self.kind}"

    @property
    def kind(self) -> str:
        """What the input in Graylog is called."""
        return {"tls": "TCP with TLS", "https": "HTTP with TLS"}.get(self.protocol, self.protocol.upper())

    @property
    def is_open(self) -> bool:
        """Whether others on the way can read what is sent."""
        return self.protocol not in ("tls", "https") and not self.address.is_loopback


@attrs.frozen
class CollectorConfig:
    """collector.ini; `keys` are the ingest keys of the environment, project -> key."""

    collector: CollectorSection
    retention: RetentionSection = attrs.field(factory=RetentionSection)
    alerts: AlertsSection = attrs.field(factory=AlertsSection)
    graylog: GraylogSection = attrs.field(factory=GraylogSection)
    keys: Mapping[str, str] = attrs.field(factory=dict, repr=False)


def _with_first_version(file: ini.Ini, section: CollectorSection) -> CollectorSection:
    """`[collector]` with what the first version's variables say of its ports and its data, where ours say nothing."""
    port = file.port("BITVILLE_PORT", "BITVILLE_COLLECTOR_LISTEN")
    if port is not None:
        section = attrs.evolve(section, listen=attrs.evolve(section.listen, port=port))
    udp = file.port("BITVILLE_UDP_PORT", "BITVILLE_COLLECTOR_UDP")
    if udp is not None:
        host = section.udp.host if section.udp else "127.0.0.1"
        section = attrs.evolve(section, udp=Address(host, udp) if udp else None)
    database = Path(file.environment.get("BITVILLE_DB_PATH", ""))
    if database.name and "BITVILLE_COLLECTOR_DATA" not in file.environment:
        if not database.is_absolute():
            raise ConfigError(file.path, f"BITVILLE_DB_PATH = {str(database)!r}: an absolute path is wanted")
        # It named a file. Ours is a folder: the one that file was in.
        section = attrs.evolve(section, data=database.parent if database.suffix else database)
    return section


def read_collector(path: Path | None, environment: Mapping[str, str]) -> CollectorConfig:
    """collector.ini and the environment. No path: defaults. Raises `ConfigError`."""
    file = ini.read_file(path, environment, {"alerts", "collector", "graylog", "retention"}, set())
    section = _with_first_version(file, file.section(CollectorSection, "collector"))
    if (section.certificate is None) != (section.private_key is None):
        raise ConfigError(file.path, "[collector] certificate and private_key belong together; give both or none")
    if section.certificate is None and not section.listen.is_loopback and not section.insecure:
        raise ConfigError(
            file.path,
            f"[collector] listen = {section.listen} is reachable from outside without TLS; "
            "give certificate and private_key, or insecure = yes",
        )
    if section.udp is not None and not section.udp.is_loopback and not section.insecure:
        raise ConfigError(
            file.path,
            f"[collector] udp = {section.udp} is reachable from outside, and datagrams are signed but not encrypted; "
            "use 127.0.0.1, or insecure = yes",
        )
    prefix = "BITVILLE_API_KEY_"
    keys = {
        name[len(prefix) :].lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith(prefix) and value
    }
    alerts = file.section(AlertsSection, "alerts")
    if alerts.mail_user and not alerts.mail_password:
        raise ConfigError(file.path, "[alerts] mail_user is given without mail_password")
    graylog = file.section(GraylogSection, "graylog")
    return CollectorConfig(section, file.section(RetentionSection, "retention"), alerts, graylog, keys)
