"""Reading an ini file and the environment above it into attrs classes: a section is a class, a key a field.

The environment goes over the file, the file over the default (DAEMON-16): key `url` of `[collector]` is
`BITVILLE_COLLECTOR_URL`, of `[php shop]` `BITVILLE_PHP_SHOP_URL`; a secret may instead be named by a file,
`BITVILLE_COLLECTOR_KEY_FILE`. No interpolation, no comments behind a value.
"""

from __future__ import annotations

import configparser
import errno
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

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


_WHAT_TO_DO = {
    errno.EADDRINUSE: "another process listens there; stop it, or name another port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "ports below 1024 are root's; name another",
}


def unusable(address: Address | str, error: OSError) -> str:
    """Why nobody can listen at an address, and what to do."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return "; ".join([f"{address}: {why}", *filter(None, [_WHAT_TO_DO.get(error.errno or 0)])])


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- Readers: text -> value, ValueError with what is wrong -------------------------------------------------


def address(text: str) -> Address:
    """`host:port`, an IPv6 host in brackets."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("host:port is wanted, such as 127.0.0.1:8443")
    return Address(host, int(port))


def yes_no(text: str) -> bool:
    """Yes or no, in the words people use."""
    if text.lower() in ("yes", "on", "true", "1"):
        return True
    if text.lower() in ("no", "off", "false", "0"):
        return False
    raise ValueError("yes or no is wanted")


def path(text: str) -> Path:
    """An absolute path: daemons have no useful working directory."""
    value = Path(text)
    if not value.is_absolute():
        raise ValueError("an absolute path is wanted")
    return value


def optional_address(text: str) -> Address | None:
    """`host:port`, or nothing."""
    return address(text) if text else None


def optional_own_address(text: str) -> Address | None:
    """`host:port` that only this machine reaches, or nothing."""
    found = optional_address(text)
    if found is not None and (not found.port or not found.is_loopback or found.host == "localhost"):
        raise ValueError("an address of this machine alone is wanted, such as 127.0.0.1:9192")
    return found


def optional_path(text: str) -> Path | None:
    """An absolute path, or nothing."""
    return path(text) if text else None


def mode(text: str) -> int:
    """An octal file mode for a socket, never open to everybody."""
    try:
        value = int(text, 8)
    except ValueError:
        raise ValueError("an octal mode is wanted, such as 0660") from None
    if value & ~0o777:
        raise ValueError("a mode up to 0777 is wanted")
    if value & 0o002:
        raise ValueError("a socket that everybody may write to is not made; give the pool's group")
    return value


def seconds(text: str) -> float:
    """A time in seconds."""
    value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if not 0 < value <= 3600:
        raise ValueError("seconds are wanted, above 0 and up to 3600")
    return value


def url(text: str) -> str:
    """A collector's address; plain http only for this machine."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL is wanted, such as https://apm.example.com:8443")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("plain http is sent to this machine only; use https (and ca for a private certificate)")
    return text.rstrip("/")


def one_of(*words: str) -> Reader:
    """A reader of a fixed set of words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is wanted")
        return text

    return read


def option(default: Any, read: Reader = str, *, secret: bool = False, was: str | None = None) -> Any:
    """A key of a section: its default, how its text is read, whether it may come from a file.

    `was` is the first version's name of it in the environment: that goes over the file, and our own name over both.
    """
    return attrs.field(default=default, metadata={"read": read, "secret": secret, "was": was}, repr=not secret)


@attrs.frozen
class Ini:
    """A parsed file, the environment above it."""

    path: str
    parsed: configparser.ConfigParser
    environment: Mapping[str, str]

    def named(self, kind: str) -> list[tuple[str, str]]:
        """The sections `[kind]` and `[kind NAME]`, each with its name (`kind` where it has none)."""
        found = [s for s in self.parsed.sections() if s.split(" ", 1)[0] == kind]
        names = [(s, s.partition(" ")[2].strip() or kind) for s in found]
        for section, name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
                raise ConfigError(self.path, f"[{section}]: a name has letters, digits, _ . - and at most 64 of them")
        return names

    def section(self, cls: type[T], section: str, **fixed: str) -> T:
        """One section as its class."""
        given = dict(self.parsed[section]) if self.parsed.has_section(section) else {}
        values: dict[str, Any] = dict(fixed)
        fields = {f.name: f for f in attrs.fields(cls) if "read" in f.metadata}  # type: ignore[arg-type]
        for unknown in given.keys() - fields.keys():
            raise ConfigError(self.path, f"[{section}] has no key {unknown!r}; it knows {', '.join(sorted(fields))}")
        for name, field in fields.items():
            where, text = f"[{section}] {name}", given.get(name)
            variable = re.sub(r"[^A-Z0-9]", "_", f"BITVILLE_{section}_{name}".upper())
            if variable in self.environment:
                where, text = variable, self.environment[variable]
            elif field.metadata["secret"] and f"{variable}_FILE" in self.environment:
                where, text = f"{variable}_FILE", self._secret(self.environment[f"{variable}_FILE"])
            elif field.metadata["was"] is not None and field.metadata["was"] in self.environment:
                where, text = field.metadata["was"], self.environment[field.metadata["was"]]
            if text is None:
                continue
            try:
                values[name] = field.metadata["read"](text)
            except ValueError as error:
                shown = "" if field.metadata["secret"] else f" = {text!r}"
                raise ConfigError(self.path, f"{where}{shown}: {error}") from None
        return cls(**values)

    def port(self, was: str, now: str) -> int | None:
        """A port that the first version's variable `was` gives, where our own variable `now` gives no address."""
        text = self.environment.get(was)
        if text is None or now in self.environment:
            return None
        if not text.isdecimal() or not 0 <= int(text) <= 65535:
            raise ConfigError(self.path, f"{was} = {text!r}: a port is wanted, 0 to 65535; or use {now} = host:port")
        return int(text)

    def _secret(self, path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _unparsed(error: configparser.Error) -> str:
    """What is wrong with a file's form; never the line itself, which may hold a key."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands before the first [section]"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}: [{error.section}] has a {error.option} already"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: [{error.section}] is there already"
    lines = error.errors if isinstance(error, configparser.ParsingError) else []
    return f"line {', '.join(str(number) for number, _ in lines)}: name = value is wanted"


def read_file(path: Path | None, environment: Mapping[str, str], plain: set[str], named: set[str]) -> Ini:
    """Read an ini file that may have the sections `plain`, and `[kind]` or `[kind NAME]` for each kind in `named`.

    No path: the environment alone. Raises `ConfigError`.
    """
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
            raise ConfigError(path, _unparsed(error)) from None
    for section in parser.sections():
        if section not in plain and section.split(" ", 1)[0] not in named:
            known = sorted(plain | named | {f"{kind} NAME" for kind in named})
            raise ConfigError(where, f"unknown section [{section}]; it knows {', '.join(f'[{k}]' for k in known)}")
    return Ini(where, parser, environment)
