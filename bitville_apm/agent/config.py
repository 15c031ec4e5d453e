"""agent.ini and the environment as frozen values.

Every key has its default here; `etc/agent.ini` explains each. How files and environment are read is in `ini.py`.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from bitville_apm import ini, limits
from bitville_apm.ini import Address, ConfigError, option


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
