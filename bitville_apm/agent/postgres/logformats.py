"""A log's bytes to its entries, in any of the three formats Postgres writes. Pure: bytes in, entries out.

Bytes come in pieces that end anywhere. What is longer than `limits.PG_LOG_ENTRY_BYTES` is cut or passed over, and what
is in no format is passed over; both are counted in `odd`.
"""

from __future__ import annotations

import csv
import json
import re
from typing import Any, Protocol

import attrs
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.agent.postgres.prefix import compiled, unix

STDERR, CSV, JSON = "stderr", "csvlog", "jsonlog"

_UNKNOWN = "[unknown]"
_CSV_BEGINS = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.MULTILINE)
_SECONDARY = {"DETAIL": "detail", "HINT": "", "CONTEXT": "", "STATEMENT": "statement", "QUERY": "", "LOCATION": "",
              "BACKTRACE": ""}  # fmt: skip


class Entry(Struct):
    """One message of a server with what belongs to it. `at` is unix seconds, None where the log does not tell."""

    at: float | None = None
    pid: int | None = None
    user: str = ""
    database: str = ""
    application: str = ""
    kind: str = ""
    severity: str = ""
    sqlstate: str = ""
    query_id: int | None = None
    message: str = ""
    detail: str = ""
    statement: str = ""


class Parser(Protocol):
    """Reads one format."""

    odd: int

    def feed(self, data: bytes) -> list[Entry]:
        """More bytes: the entries that are whole now."""
        ...

    def flush(self) -> list[Entry]:
        """Nothing more came for a while: what is whole by that."""
        ...

    def resume(self) -> None:
        """What comes next may begin within an entry."""
        ...


@attrs.define
class Stderr:
    """Plain text with a prefix. Lines of one message follow one another, further ones of a text begin with a tab."""

    prefix: str
    odd: int = 0
    _pattern: re.Pattern[str] = attrs.field(init=False)
    _rest: bytes = b""
    _entry: Entry | None = None
    _field: str = ""
    _size: int = 0

    def __attrs_post_init__(self) -> None:
        self._pattern = compiled(self.prefix)

    def feed(self, data: bytes) -> list[Entry]:
        """More bytes: the entries that are whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > limits.PG_LOG_ENTRY_BYTES:
            lines.append(self._rest)
            self._rest = b""
        found: list[Entry] = []
        for line in lines:
            entry = self._line(line.decode("utf-8", "replace"))
            if entry is not None:
                found.append(entry)
        return found

    def flush(self) -> list[Entry]:
        """Nothing more came for a while: what is whole by that."""
        entry, self._entry = self._entry, None
        return [entry] if entry is not None else []

    def resume(self) -> None:
        """What is no message's first line is passed over."""

    def _line(self, line: str) -> Entry | None:
        if line.startswith("\t"):
            self._append("\n" + line[1:])
            return None
        match = self._pattern.match(line)
        if match is None:
            self.odd += bool(line)
            self._field = ""
            return None
        word = match["word"]
        if word in _SECONDARY:
            self._field = _SECONDARY[word]
            self._append(match["rest"])
            return None
        done, self._entry = self._entry, _entry_of(match)
        self._field, self._size = "message", len(line)
        return done

    def _append(self, text: str) -> None:
        if self._entry is None or not self._field:
            return
        self._size += len(text)
        if self._size <= limits.PG_LOG_ENTRY_BYTES:
            setattr(self._entry, self._field, getattr(self._entry, self._field) + text)
        else:
            self.odd += 1
            self._field = ""


def _entry_of(match: re.Match[str]) -> Entry:
    held = {name: value for name, value in match.groupdict().items() if value is not None and value != _UNKNOWN}
    at = float(held["epoch"]) if "epoch" in held else unix(held.get("time"))
    return Entry(
        at=at,
        pid=int(held["pid"]) if "pid" in held else None,
        user=held.get("user", ""),
        database=held.get("database", ""),
        application=held.get("application", ""),
        kind=held.get("kind", ""),
        severity=match["word"],
        sqlstate=held.get("sqlstate", ""),
        query_id=int(held.get("query_id", 0)) or None,
        message=match["rest"],
    )


@attrs.define
class Json:
    """One object a line (15 and later)."""

    odd: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[Entry]:
        """More bytes: the entries that are whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > limits.PG_LOG_ENTRY_BYTES:
            self._rest, self.odd = b"", self.odd + 1
        found = []
        for line in lines:
            if not line:
                continue
            try:
                told = json.loads(line) if len(line) <= limits.PG_LOG_ENTRY_BYTES else None
            except (ValueError, RecursionError):
                told = None
            if isinstance(told, dict):
                found.append(_entry_of_json(told))
            else:
                self.odd += 1
        return found

    def flush(self) -> list[Entry]:
        """Every line is whole by itself."""
        return []

    def resume(self) -> None:
        """Half a line is in no format."""


def _entry_of_json(told: dict[str, Any]) -> Entry:
    def text(name: str) -> str:
        value = told.get(name)
        return value if isinstance(value, str) else ""

    def whole(name: str) -> int | None:
        value = told.get(name)
        return value if isinstance(value, int) else None

    return Entry(
        at=unix(text("timestamp")),
        pid=whole("pid"),
        user=text("user"),
        database=text("dbname"),
        application=text("application_name"),
        kind=text("backend_type"),
        severity=text("error_severity"),
        sqlstate=text("state_code"),
        query_id=whole("query_id") or None,
        message=text("message"),
        detail=text("detail"),
        statement=text("statement"),
    )


_C = {"time": 0, "user": 1, "database": 2, "pid": 3, "severity": 11, "sqlstate": 12, "message": 13, "detail": 14,
      "statement": 19, "application": 22, "kind": 23, "query_id": 25}  # fmt: skip
"""Columns of the CSV format: those that came later stand behind those that were there."""


@attrs.define
class Csv:
    """Comma-separated values; a record ends with a line outside of quotes."""

    odd: int = 0
    _rest: bytes = b""
    _seen: int = 0
    _lost: bool = False

    def feed(self, data: bytes) -> list[Entry]:
        """More bytes: the entries that are whole now."""
        data = self._rest + data
        if self._lost:
            begins = _CSV_BEGINS.search(data)
            if begins is None:
                self._rest = data[-limits.PG_LOG_ENTRY_BYTES :]
                return []
            data, self._lost, self._seen = data[begins.start() :], False, 0
        found, start, quotes, line = [], 0, 0, self._seen
        while (end := data.find(b"\n", line)) >= 0:
            quotes += data.count(b'"', line, end)
            line = end + 1
            if quotes % 2 == 0:
                found += self._record(data[start:end])
                start = line
        # Lines of a record that is not whole are counted again with what follows: it is short.
        self._rest, self._seen = data[start:], 0
        if len(self._rest) > limits.PG_LOG_ENTRY_BYTES:
            self._rest, self._lost, self.odd = b"", True, self.odd + 1
        return found

    def flush(self) -> list[Entry]:
        """Every record is whole by itself."""
        return []

    def resume(self) -> None:
        """Go on at the next line that begins like a record."""
        self._lost = True

    def _record(self, record: bytes) -> list[Entry]:
        try:
            (row,) = csv.reader([record.decode("utf-8", "replace").replace("\n", "\r")], strict=True)
        except (csv.Error, ValueError):
            self.odd += bool(record)
            return []
        if len(row) <= _C["application"]:
            self.odd += 1
            return []

        def column(name: str) -> str:
            return row[_C[name]].replace("\r", "\n") if len(row) > _C[name] else ""

        pid, query_id = column("pid"), column("query_id")
        return [
            Entry(
                at=unix(column("time")),
                pid=int(pid) if pid.isdecimal() else None,
                user=column("user"),
                database=column("database"),
                application=column("application"),
                kind=column("kind"),
                severity=column("severity"),
                sqlstate=column("sqlstate"),
                query_id=int(query_id) if query_id.lstrip("-").isdecimal() and query_id != "0" else None,
                message=column("message"),
                detail=column("detail"),
                statement=column("statement"),
            )
        ]


def parser_for(path: str, prefix: str) -> Parser:
    """The format of a file, which its name tells: Postgres itself chooses it so."""
    if path.endswith(".json"):
        return Json()
    if path.endswith(".csv"):
        return Csv()
    return Stderr(prefix)
