"""Finding a PHP that can run the shop, and giving it settings of its own.

A machine's settings may load tideways or Xdebug, which cost every request time merely by being there. So PHP gets
an ini with the modules the shop needs and no others.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

NEEDED = ("pdo", "pdo_sqlite")
WANTED = ("mbstring", "posix", "ctype", "tokenizer", "excimer")


class NoPhp(Exception):
    """There is no PHP that could run the shop; the message says what is missing."""


@attrs.frozen
class Php:
    """A PHP binary: what it is, the modules built into it and where others lie."""

    binary: str
    is_fpm: bool
    builtin: frozenset[str]
    directory: Path
    version: str

    @classmethod
    def find(cls, path: str | None = None) -> Php:
        """The best PHP on `path` (default: $PATH), and in the sbin beside each of its bins. Raises `NoPhp`."""
        path = os.environ.get("PATH", os.defpath) if path is None else path
        path = ":".join([path, *(f"{d[:-4]}/sbin" for d in path.split(":") if d.endswith("/bin"))])
        problems = []
        for binary, is_fpm in [*((b, True) for b in _fpm_binaries(path)), (shutil.which("php", path=path), False)]:
            if binary is None:
                continue
            try:
                php = cls._ask(binary, is_fpm)
            except (OSError, subprocess.SubprocessError) as error:
                problems.append(f"{binary} does not run: {error}")
                continue
            missing = [m for m in NEEDED if not php.has(m)]
            if not missing:
                return php
            problems.append(f"{binary} has no {' and no '.join(missing)} (Debian: apt install php-sqlite3)")
        raise NoPhp("; ".join(problems) or "no php-fpm and no php is installed")

    @classmethod
    def _ask(cls, binary: str, is_fpm: bool) -> Php:
        def say(option: str) -> str:
            # `-n`: no ini at all, so that only what is compiled in answers.
            return subprocess.run([binary, "-n", option], capture_output=True, text=True, timeout=20).stdout

        information = say("-i")
        directory = re.search(r"^extension_dir => (\S+)", information, re.MULTILINE)
        version = re.search(r"^PHP Version => (\S+)", information, re.MULTILINE)
        return cls(
            binary,
            is_fpm,
            frozenset(line.strip().lower() for line in say("-m").splitlines()),
            Path(directory[1] if directory else "/nonexistent"),
            version[1] if version else "unknown",
        )

    def has(self, module: str) -> bool:
        """Whether the module is compiled in or can be loaded."""
        return module in self.builtin or (self.directory / f"{module}.so").is_file()

    def ini(self, more: Sequence[str] = (), **settings: str) -> str:
        """A php.ini with the shop's modules, `more`, and these settings (`__` stands for the dot in a name)."""
        lines = [f"{name.replace('__', '.')} = {quoted(value)}" for name, value in settings.items()]
        lines += [f"extension = {m}" for m in (*NEEDED, *WANTED, *more) if m not in self.builtin and self.has(m)]
        if "zend opcache" not in self.builtin and self.has("opcache"):
            lines.append("zend_extension = opcache")
        return "\n".join(lines) + "\n"


def _fpm_binaries(path: str) -> list[str]:
    """Every php-fpm on the path, the newest version first."""
    found = {
        os.path.basename(name): name
        for directory in reversed(path.split(":"))
        for name in glob.glob(f"{glob.escape(directory)}/php-fpm*")
        if os.access(name, os.X_OK)
    }
    return [found[name] for name in sorted(found, key=_version, reverse=True)]


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def quoted(value: str) -> str:
    """A value as an ini file of PHP takes it whole."""
    return value if re.fullmatch(r"[\w.]*", value) else f'"{value}"'
