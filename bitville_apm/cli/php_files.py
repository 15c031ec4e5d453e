"""The files of an installed PHP client: a few per version, whose name tells their content, and those that stay.

A pool sees the old version whole or the new one whole: `listener.php`, exchanged last, names the one in force.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import bitville_apm
from bitville_apm.cli.php_settings import Refused

SOURCE = Path(bitville_apm.__file__).parent / "php"
STUB, LISTENER, COMPAT = "prepend.php", "listener.php", "compat.php"
CLASSES = "/src/begin.php"
"""How listener.php names what it loads; an installed one names a file of those classes."""

EXTRAS = ("mediawiki", "doctrine", "symfony")
"""Files of src/ that are loaded only for those applications."""


def classes(name: str) -> str:
    """The classes that src/`name`.php lists, in its order, as the text of one file without its head."""
    order = (SOURCE / "src" / f"{name}.php").read_text().split("$classes = [", 1)[1].split("];", 1)[0]
    parts = []
    for found in re.findall(r"'(\w+)'", order):
        code = _body(SOURCE / "src" / f"{found}.php")
        code = code.replace("declare(strict_types=1);\n", "", 1).replace("namespace BitvilleApm;\n", "", 1)
        extension = re.match("Pdo|Mysqli", found)
        if extension:
            code = f"if (class_exists('{extension[0]}', false)) {{\n{code}}}\n"
        parts.append(f"namespace BitvilleApm {{\n{code}}}\n")
    return "".join(parts)


def whole() -> tuple[str, dict[str, str]]:
    """The client as a few files: the name of this version, which tells their content, and text by kind.

    `client` is what a request needs at once; it names the others.
    """
    texts = {
        "client": f"<?php\n{classes('begin')}namespace {{\n{_body(SOURCE / 'helpers.php')}\nreturn true;\n}}\n",
        "rest": f"<?php\n{classes('rest')}namespace {{\nreturn true;\n}}\n",
    }
    for extra in EXTRAS:
        texts[extra] = (SOURCE / "src" / f"{extra}.php").read_text()
    name = hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:12]
    for kind in texts:
        texts["client"] = texts["client"].replace(f"'/{kind}.php'", f"'/{kind}-{name}.php'")
        texts["rest"] = texts["rest"].replace(f"'/{kind}.php'", f"'/{kind}-{name}.php'")
    return name, texts


def _body(path: Path) -> str:
    return path.read_text().removeprefix("<?php\n")


def versioned(folder: Path) -> list[Path]:
    """The files of all versions that are there."""
    return [path for kind in ("client", "rest", *EXTRAS) for path in folder.glob(f"{kind}-*.php")]


def put(path: Path, text: str) -> None:
    """A file that is there whole or not at all, and that every pool can read."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def copy_to(folder: Path, stub: bool) -> None:
    """The client into its folder; what is there keeps serving pages meanwhile."""
    name, texts = whole()
    client = f"client-{name}.php"
    listener = (SOURCE / LISTENER).read_text()
    if listener.count(CLASSES) != 1:
        raise Refused(f"{SOURCE / LISTENER} is not the one that belongs to this version; reinstall bitville-apm")
    current = folder / LISTENER
    before = current.read_text(errors="replace") if current.is_file() else ""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    # The listener after what it names. OPcache may show pools the one before for some seconds.
    for kind, text in texts.items():
        put(folder / f"{kind}-{name}.php", text)
    put(folder / COMPAT, (SOURCE / COMPAT).read_text())
    put(current, listener.replace(CLASSES, f"/{client}"))
    if stub or not (folder / STUB).exists():
        put(folder / STUB, (SOURCE / STUB).read_text())
    for old in versioned(folder):
        version = old.stem.partition("-")[2]
        if version != name and f"client-{version}.php" not in before:
            old.unlink()
