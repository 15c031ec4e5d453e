"""The numbers exist once, and their PHP copy is the same."""

from __future__ import annotations

import re
from pathlib import Path

import bitville_apm
from bitville_apm import limits

PACKAGE = Path(bitville_apm.__file__).parent


def test_every_number_is_read_somewhere() -> None:
    """A limit that nothing reads bounds nothing."""
    names = {name for name in vars(limits) if name.isupper()} - {"KIB", "MIB"}
    text = "\n".join(p.read_text() for p in PACKAGE.rglob("*.py") if p.name != "limits.py")
    own = (PACKAGE / "limits.py").read_text()
    php = (PACKAGE / "php" / "src" / "Limits.php").read_text()
    unread = {n for n in names if not re.search(rf"limits\.{n}\b", text) and len(re.findall(rf"\b{n}\b", own)) < 2}
    unread = {n for n in unread if f"const {n} =" not in php}
    assert not unread


def test_the_php_copy_is_the_same() -> None:
    """The client bounds its spool and its statements by the numbers the agent expects."""
    php = (PACKAGE / "php" / "src" / "Limits.php").read_text()
    theirs = {name: int(value) for name, value in re.findall(r"const (\w+) = (\d+);", php)}
    for name in ("SPOOL_FILES", "SPOOL_BYTES", "SPOOL_AGE_S", "SPOOL_SHORT_BYTES"):
        assert theirs[name] == getattr(limits, name), name
    assert theirs["STATEMENT_BYTES"] == limits.SQL_INPUT_BYTES
