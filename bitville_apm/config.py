"""Configuration of the two daemons, as frozen values: agent.ini and collector.ini.

Every key has its default here; `etc/*.ini` explains each. How files and environment are read is in `ini.py`.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from bitville_apm import ini, limits
from bitville_apm.ini import Address, ConfigError, option
from bitville_apm.peers import Networks, networks

# --- The agent ---------------------------------------------------------------------------------------------


@attrs.frozen
class AgentSection:
    """`[agent]`."""

    state: Path = option(Path("/var/lib/bitville-apm"), ini.path)
    health: Address = option(Address("127.0.0.1", 9191), ini.address)
    host: str = option(attrs.Factory(socket.gethostname))
    heartbeat: Path = option(Path("/var/run/bitville-apm/alive"), ini.path)


@attrs.frozen
class LinkSection:
    """`[collector]` in agent.ini: where to send."""

    url: str = option("http://127.0.0.1:8443", ini.url)
    key: str = option("", secret=True)
    key_file: Path = option(Path("/var/lib/bitville-apm-collector/local.key"), ini.path)
    ca: Path | None = option(None, ini.optional_path)
    flush_seconds: float = option(limits.FLUSH_S, ini.seconds)


@attrs.frozen
class FpmStatus:
    """Where a pool of php-fpm tells its status: a UNIX socket's path or an address and port, and `pm.status_path`.

    `most` is its `pm.max_children`, where somebody has written it down.
    """

    address: str | tuple[str, int]
    path: str
    most: int | None = None

    @property
    def shown(self) -> str:
        """As it is written."""
        where = f"unix:{self.address}" if isinstance(self.address, str) else str(Address(*self.address))
        return f"{where} {self.path}"


def _fpm_status(text: str) -> tuple[FpmStatus, ...]:
    return tuple(_one_fpm_status(entry) for entry in text.split(",")) if text else ()


def _one_fpm_status(entry: str) -> FpmStatus:
    where, path, most, *more = [*entry.split(), "", "", ""][:4]
    address: str | tuple[str, int] = where.removeprefix("unix:")
    if not where.startswith("unix:/"):
        try:
            found = ini.address(where)
            address = (str(ipaddress.ip_address("127.0.0.1" if found.host == "localhost" else found.host)), found.port)
        except ValueError:
            address = ""
    if not address or not path.startswith("/") or any(more) or (most and not most.isdecimal()):
        raise ValueError(
            "unix:PATH or ADDRESS:PORT, the pool's pm.status_path, and its pm.max_children if you like are wanted, "
            "such as unix:/run/php/php8.2-fpm.sock /status 40"
        )
    return FpmStatus(address, path, int(most) if most else None)


@attrs.frozen
class PhpSection:
    """`[php]` or `[php NAME]`: one socket for the PHP processes of one project."""

    name: str
    enabled: bool = option(True, ini.yes_no)
    socket: Path = option(Path("/var/run/bitville-apm/daemon.sock"), ini.path)
    mode: int = option(0o660, ini.mode)
    group: str = option("www-data")
    spool: Path | None = option(None, ini.optional_path)
    datagram: Path | None = option(None, ini.optional_path)
    udp: Address | None = option(None, ini.optional_own_address)
    fpm_status: tuple[FpmStatus, ...] = option((), _fpm_status)
    key: str = option("", secret=True)


@attrs.frozen
class HostSection:
    """`[host]`: everything that runs on this machine, not PHP alone. `proc` is where its /proc is mounted."""

    enabled: bool = option(True, ini.yes_no)
    proc: Path = option(Path("/proc"), ini.path)


def _optional_pattern(text: str) -> str:
    """An absolute path that may hold `*`, or nothing."""
    if text and not Path(text).is_absolute():
        raise ValueError("an absolute path is wanted, `*` for the newest of several files")
    return text


@attrs.frozen
class PostgresSection:
    """`[postgres]` or `[postgres NAME]`: one database server. `log` is only needed where the server cannot tell."""

    name: str
    dsn: str = option("", secret=True)
    log: str = option("", _optional_pattern)
    key: str = option("", secret=True)


def _count(least: int, what: str) -> ini.Reader:
    """A reader of whole numbers from `least` on; 0 switches the thing off, unless it is the least."""

    def read(text: str) -> int:
        count = int(text) if text.isdecimal() and len(text) < 10 else -1
        if count != 0 and count < least:
            raise ValueError(f"{what} are wanted, {least} or more" + ("; 0 for never" if least else ""))
        return count

    return read


def _megabytes(text: str) -> int:
    value = int(text) if text.isdecimal() and len(text) < 8 else 0
    if value < limits.JOURNAL_LEAST_MB:
        raise ValueError(f"megabytes are wanted, {limits.JOURNAL_LEAST_MB} or more")
    return value


@attrs.frozen
class AgentLimits:
    """`[limits]`. 0 requests or megabytes: it does not restart because of them."""

    max_requests: int = option(limits.RESTART_REQUESTS, _count(1, "whole requests"))
    min_lifetime: int = option(limits.RESTART_LIFETIME_S, _count(0, "whole seconds"))
    memory_mb: int = option(limits.RESTART_MEMORY_MB, _count(limits.RESTART_MEMORY_LEAST_MB, "megabytes"))
    journal_mb: int = option(limits.JOURNAL_MB, _megabytes)
    fsync: str = option("interval", ini.one_of("interval", "always", "never"))


@attrs.frozen
class AgentConfig:
    """agent.ini; of `[php NAME]` those that are enabled."""

    agent: AgentSection
    collector: LinkSection
    php: tuple[PhpSection, ...]
    host: HostSection
    postgres: tuple[PostgresSection, ...]
    limits: AgentLimits


# --- The collector -----------------------------------------------------------------------------------------


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


@attrs.frozen
class CollectorConfig:
    """collector.ini; `keys` are the ingest keys of the environment, project -> key."""

    collector: CollectorSection
    retention: RetentionSection = attrs.field(factory=RetentionSection)
    alerts: AlertsSection = attrs.field(factory=AlertsSection)
    keys: Mapping[str, str] = attrs.field(factory=dict, repr=False)


# --- Reading -----------------------------------------------------------------------------------------------


def read_agent(path: Path | None, environment: Mapping[str, str]) -> AgentConfig:
    """agent.ini and the environment. No path: defaults. Raises `ConfigError`."""
    file = ini.read_file(path, environment, {"agent", "collector", "host", "limits"}, {"php", "postgres"})
    sections = file.named("php") or [("php", "php")]
    agent = file.section(AgentSection, "agent")
    php = [p for section, name in sections if (p := file.section(PhpSection, section, name=name)).enabled]
    config = AgentConfig(
        agent=agent,
        collector=file.section(LinkSection, "collector"),
        php=tuple(p if p.spool else attrs.evolve(p, spool=agent.state / "buffer" / p.name) for p in php),
        host=file.section(HostSection, "host"),
        postgres=tuple(_postgres(file)),
        limits=file.section(AgentLimits, "limits"),
    )
    if any(p.name == "host" for p in config.php):
        raise ConfigError(file.path, "[php host]: /health calls the machine itself by this name; choose another")
    if any(p.name == "postgres" for p in config.php) and config.postgres:
        raise ConfigError(file.path, "[php postgres]: /health calls the database by this name; choose another")
    for what in ("socket", "spool"):
        if len({getattr(p, what) for p in config.php}) < len(config.php):
            raise ConfigError(file.path, f"two [php …] sections have the same {what}; give each its own")
    bound = [str(a) for p in config.php for a in (p.socket, p.datagram, p.udp) if a is not None]
    if len(set(bound)) < len(bound):
        raise ConfigError(file.path, "two of the [php …] sections' socket, datagram and udp are the same")
    return config


def _first_dsn(environment: Mapping[str, str]) -> str:
    """What the first version's variables, BITVILLE_PG_HOST and its like, are as a connection string; empty without."""
    names = {"HOST": "host", "PORT": "port", "DATABASE": "dbname", "USER": "user", "PASSWORD": "password"}
    given = {word: environment.get(f"BITVILLE_PG_{name}", "") for name, word in names.items()}
    quoted = {word: re.sub(r"([\\'])", r"\\\1", text) for word, text in given.items() if text}
    return " ".join(f"{word}='{text}'" for word, text in quoted.items())


def _postgres(file: ini.Ini) -> Iterator[PostgresSection]:
    """The servers that are to be watched; `[postgres]` with nothing in it is none."""
    first = _first_dsn(file.environment)
    for section, name in file.named("postgres") or ([("postgres", "postgres")] if first else []):
        server = file.section(PostgresSection, section, name=name)
        if first and not server.dsn and section == "postgres":
            server = attrs.evolve(server, dsn=first)
        if not server.dsn and server == PostgresSection(name) and section == "postgres":
            continue
        if not server.dsn:
            raise ConfigError(
                file.path, f"[{section}] dsn is wanted, such as host=/var/run/postgresql dbname=shop user=bitville"
            )
        if importlib.util.find_spec("psycopg") is None:
            raise ConfigError(file.path, f"[{section}] needs psycopg: pip install 'bitville-apm[postgres]'")
        try:
            importlib.import_module("psycopg.conninfo").conninfo_to_dict(server.dsn)
        except Exception:  # noqa: BLE001 - whatever psycopg has to say of it would repeat the password
            raise ConfigError(
                file.path, f"[{section}] dsn: a connection string is wanted, words or a URL as psql takes them"
            ) from None
        yield server


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
    file = ini.read_file(path, environment, {"alerts", "collector", "retention"}, set())
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
    return CollectorConfig(section, file.section(RetentionSection, "retention"), alerts, keys)
