"""Configuration files and the environment, read once into frozen values.

A section is an attrs class; a key is a field of it made by `_key`. The environment goes over the file, the file
over the default (DAEMON-16): key `url` of `[collector]` is `BITVILLE_COLLECTOR_URL`, of `[php shop]`
`BITVILLE_PHP_SHOP_URL`; a secret may instead be named by a file, `BITVILLE_COLLECTOR_KEY_FILE`. No
interpolation, no comments behind a value.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

from bitville_apm import limits

T = TypeVar("T")
Reader = Callable[[str], Any]


class ConfigError(Exception):
    """A setting that cannot be used: where it stands and what to do, in one line."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(f"{path}: {why}")


@attrs.frozen
class Address:
    """A host and a TCP port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- Readers: text -> value, ValueError with what is wrong -------------------------------------------------


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("host:port is wanted, such as 127.0.0.1:8443")
    return Address(host, int(port))


def _yes_no(text: str) -> bool:
    value = {
        "yes": True,
        "on": True,
        "true": True,
        "1": True,
        "no": False,
        "off": False,
        "false": False,
        "0": False,
    }
    if text.lower() not in value:
        raise ValueError("yes or no is wanted")
    return value[text.lower()]


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("an absolute path is wanted")
    return path


def _optional_path(text: str) -> Path | None:
    return _path(text) if text else None


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        raise ValueError("an octal mode is wanted, such as 0660") from None
    if mode & ~0o777:
        raise ValueError("a mode up to 0777 is wanted")
    if mode & 0o002:
        raise ValueError("a socket that everybody may write to is not made; give the pool's group")
    return mode


def _seconds(text: str) -> float:
    value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if not 0 < value <= 3600:
        raise ValueError("seconds are wanted, above 0 and up to 3600")
    return value


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL is wanted, such as https://apm.example.com:8443")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("plain http is sent to this machine only; use https (and ca for a private certificate)")
    return text.rstrip("/")


def _one_of(*words: str) -> Reader:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is wanted")
        return text

    return read


def _key(default: Any, read: Reader = str, *, secret: bool = False) -> Any:
    """A key of a section: its default, how its text is read, whether it may come from a file."""
    return attrs.field(default=default, metadata={"read": read, "secret": secret}, repr=not secret)


# --- The agent ---------------------------------------------------------------------------------------------


@attrs.frozen
class AgentSection:
    """`[agent]`."""

    state: Path = _key(Path("/var/lib/bitville-apm"), _path)
    health: Address = _key(Address("127.0.0.1", 9191), _address)
    host: str = _key(attrs.Factory(socket.gethostname))
    heartbeat: Path = _key(Path("/var/run/bitville-apm/alive"), _path)


@attrs.frozen
class LinkSection:
    """`[collector]` in agent.ini: where to send."""

    url: str = _key("http://127.0.0.1:8443", _url)
    key: str = _key("", secret=True)
    key_file: Path = _key(Path("/var/lib/bitville-apm-collector/local.key"), _path)
    ca: Path | None = _key(None, _optional_path)
    flush_seconds: float = _key(limits.FLUSH_S, _seconds)


@attrs.frozen
class PhpSection:
    """`[php]` or `[php NAME]`: one socket for the PHP processes of one project."""

    name: str
    socket: Path = _key(Path("/var/run/bitville-apm/daemon.sock"), _path)
    mode: int = _key(0o660, _mode)
    group: str = _key("www-data")
    spool: Path | None = _key(None, _optional_path)
    key: str = _key("", secret=True)


@attrs.frozen
class AgentLimits:
    """`[limits]`."""

    fsync: str = _key("interval", _one_of("interval", "always", "never"))


@attrs.frozen
class AgentConfig:
    """agent.ini."""

    agent: AgentSection
    collector: LinkSection
    php: tuple[PhpSection, ...]
    limits: AgentLimits


# --- The collector -----------------------------------------------------------------------------------------


@attrs.frozen
class CollectorSection:
    """`[collector]` in collector.ini."""

    listen: Address = _key(Address("127.0.0.1", 8443), _address)
    data: Path = _key(Path("/var/lib/bitville-apm-collector"), _path)
    certificate: Path | None = _key(None, _optional_path)
    private_key: Path | None = _key(None, _optional_path)
    insecure: bool = _key(False, _yes_no)


@attrs.frozen
class CollectorConfig:
    """collector.ini; `keys` are the ingest keys of the environment, project -> key."""

    collector: CollectorSection
    keys: Mapping[str, str] = attrs.field(factory=dict, repr=False)


# --- Reading -----------------------------------------------------------------------------------------------


def read_agent(path: Path | None, environment: Mapping[str, str]) -> AgentConfig:
    """agent.ini and the environment. No path: defaults. Raises `ConfigError`."""
    ini = _ini(path, environment, {"agent", "collector", "limits"}, {"php"})
    sections = ini.named("php") or [("php", "php")]
    php = tuple(attrs.evolve(ini.section(PhpSection, section, name=name)) for section, name in sections)
    config = AgentConfig(
        agent=ini.section(AgentSection, "agent"),
        collector=ini.section(LinkSection, "collector"),
        php=tuple(
            p if p.spool else attrs.evolve(p, spool=ini.section(AgentSection, "agent").state / "buffer" / p.name)
            for p in php
        ),
        limits=ini.section(AgentLimits, "limits"),
    )
    for what in ("socket", "spool"):
        if len({getattr(p, what) for p in config.php}) < len(config.php):
            raise ConfigError(ini.path, f"two [php …] sections have the same {what}; give each its own")
    return config


def read_collector(path: Path | None, environment: Mapping[str, str]) -> CollectorConfig:
    """collector.ini and the environment. No path: defaults. Raises `ConfigError`."""
    ini = _ini(path, environment, {"collector"}, set())
    section = ini.section(CollectorSection, "collector")
    if (section.certificate is None) != (section.private_key is None):
        raise ConfigError(ini.path, "[collector] certificate and private_key belong together; give both or none")
    if section.certificate is None and not section.listen.is_loopback and not section.insecure:
        raise ConfigError(
            ini.path,
            f"[collector] listen = {section.listen} is reachable from outside without TLS; "
            "give certificate and private_key, or insecure = yes",
        )
    prefix = "BITVILLE_API_KEY_"
    keys = {
        name[len(prefix) :].lower().replace("_", "-"): value
        for name, value in environment.items()
        if name.startswith(prefix) and value
    }
    return CollectorConfig(section, keys)


@attrs.frozen
class _Ini:
    """A parsed file, the environment above it."""

    path: str
    parsed: configparser.ConfigParser
    environment: Mapping[str, str]

    def named(self, kind: str) -> list[tuple[str, str]]:
        """The sections `[kind]` and `[kind NAME]`, each with its name (`kind` where it has none)."""
        found = [s for s in self.parsed.sections() if s.split(" ", 1)[0] == kind]
        return [(s, s.partition(" ")[2].strip() or kind) for s in found]

    def section(self, cls: type[T], section: str, **fixed: str) -> T:
        """One section as its class."""
        given = dict(self.parsed[section]) if self.parsed.has_section(section) else {}
        values: dict[str, Any] = dict(fixed)
        fields = {f.name: f for f in attrs.fields(cls) if "read" in f.metadata}  # type: ignore[arg-type, misc]
        for unknown in given.keys() - fields.keys():
            raise ConfigError(
                self.path, f"[{section}] has no key {unknown!r}; it knows {', '.join(sorted(fields))}"
            )
        for name, field in fields.items():
            where, text = f"[{section}] {name}", given.get(name)
            variable = re.sub(r"[^A-Z0-9]", "_", f"BITVILLE_{section}_{name}".upper())
            if variable in self.environment:
                where, text = variable, self.environment[variable]
            elif field.metadata["secret"] and f"{variable}_FILE" in self.environment:
                where, text = f"{variable}_FILE", self._secret(self.environment[f"{variable}_FILE"])
            if text is None:
                continue
            try:
                values[name] = field.metadata["read"](text)
            except ValueError as error:
                shown = "" if field.metadata["secret"] else f" = {text!r}"
                raise ConfigError(self.path, f"{where}{shown}: {error}") from None
        return cls(**values)

    def _secret(self, path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _ini(path: Path | None, environment: Mapping[str, str], plain: set[str], named: set[str]) -> _Ini:
    parser = configparser.ConfigParser(
        interpolation=None, default_section="", delimiters=("=",), comment_prefixes=("#", ";")
    )
    where = str(path) if path else "environment"
    if path is not None:
        try:
            with path.open(encoding="utf-8") as file:
                if stat.S_IMODE(path.stat().st_mode) & 0o004 and stat.S_ISREG(path.stat().st_mode):
                    raise ConfigError(path, f"readable by everybody, and it may hold keys: chmod 640 {path}")
                parser.read_file(file, source=where)
        except OSError as error:
            raise ConfigError(path, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(path, "is not UTF-8") from None
        except configparser.Error as error:
            raise ConfigError(path, " ".join(str(error).split())) from None
    for section in parser.sections():
        if section not in plain and section.split(" ", 1)[0] not in named:
            known = sorted(plain | named | {f"{kind} NAME" for kind in named})
            raise ConfigError(where, f"unknown section [{section}]; it knows {', '.join(f'[{k}]' for k in known)}")
    return _Ini(where, parser, environment)
