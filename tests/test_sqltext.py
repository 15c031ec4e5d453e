"""Statements: the vectors, literals that must not survive, equality with the PHP client, and the time it takes."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits, sqltext
from bitville_apm.sqltext import fingerprint, statement
from tests.tools import require

HERE = Path(__file__).parent
VECTORS = HERE / "wire" / "statements.tsv"
STATEMENT_PHP = HERE.parent / "bitville_apm" / "php" / "src" / "Statement.php"
PHP = ["php", "-d", "display_errors=stderr", str(HERE / "php" / "statement.php"), str(STATEMENT_PHP)]
DIALECTS = ["mysql", "pg", "sqlite", "unknown"]
MARK = "Zq9secret"

# Pieces that mean something to one database or another, for texts that are wrong in interesting ways.
PIECES = [
    "'", "''", "\\'", "\\", '"', '""', '\\"', "`", "``", "/*", "*/", "/*!", "/*M!1", "--", "--x", "#", "#>",
    "$$", "$t$", "$1", "$n", "(", ")", "[", "]", ",", ";", "?", "?,", "%s", "%", ":", "::", ":n", "@", "@n",
    ".", ".5", "-", "+", "-1", "1", "0x1f", "1e-5", "1e", "t1", "E'", "e'", "N'", "x'", "U&'", "VALUES",
    "values(", "SELECT", "AND", "é", "(1,2)", "((1,2),", "*", "/", "<", "=", "'a'", '"a"', "`a`", "[a'b]",
    "\xa0", "\n", "\r", "\r\n", "\t", "\0", " ", "  ",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode()),
    st.lists(st.one_of(st.sampled_from(PIECES).map(str.encode), st.binary(max_size=3)), max_size=20).map(b"".join),
)

# Whole and correct SQL of each database; the {} is where a value goes that must not be seen again.
COMMON = [
    "'{}'", "'it''s {}'", "'/* {}'", "'-- {}'", "'\"{}'", "'`{}'", "'# {}'", "'$$ {}'", "N'{}'", "('{}', '{}')",
    "/* {} ' \" ` */", "/* {} */", "-- {} ' \" `\n", "-- {}\r\n", "a.b", "t1 = 42", "x IN ( 'y' , '{}' )", "-7", ", ",
    "(", ")",
]  # fmt: skip
CORRECT = {
    "mysql": [
        *COMMON, "'it\\'s {}'", "'\\\\'", "'\\\\\\' {}'", '"{}"', '"\\"{}"', '"o\'clock {}"', "`it's`", "`a``b\"`",
        "# {} ' \"\n", "5--3", "/* /* {} */", "/*!40001 '{}' */", "/*M! a */", "_utf8'{}'", "a$b$c", "j->>\"$.{}\"",
        "'{}' \"{}\"", "@'x'", "/*!99999 it's */ '{}'", "/*!99999 ' */ '{}'", "/*! a -- {}\n */",
    ],
    "pg": [
        *COMMON, "'C:\\'", "'\\{}\\'", "E'it\\'s {}'", "e'\\\\'", "E'a'\n '\\'{}'", "$$ {} ' $$", "$t$ $$ {} ' $t$",
        "\"it's\"", '"a""b"', "/* a /* {} ' */ {} */", "--{} '\n", "ARRAY['{}', 'x']", "ARRAY[x, '{}']",
        "a #>> '{{{}}}'", "a # 3", "a$b$c", "U&'\\0441{}'", "$1",
    ],
    "sqlite": [
        *COMMON, "'C:\\'", "'\\{}\\'", "\"it's\"", "[it's]", "[a\"b]", "`it's`", "x'00ff'", "--{} '\n",
        "/* /* {} ' */", "@n", "$n", ":n", "?1",
    ],
}  # fmt: skip


def unescape(field: str) -> bytes:
    """A field of the vectors as bytes; the file's first line says how they are written."""
    known = {"t": b"\t", "n": b"\n", "r": b"\r", "\\": b"\\"}
    return re.sub(
        rb"\\(?:x([0-9a-f]{2})|(.))",
        lambda m: bytes.fromhex(m[1].decode()) if m[1] else known[m[2].decode()],
        field.encode(),
    )


@pytest.fixture(scope="module")
def ask() -> Iterator[Any]:
    """One PHP process for all questions: `ask(**question)` gives its answer."""
    require("php")
    with subprocess.Popen(PHP, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def answer(**question: object) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield answer


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_vectors() -> None:
    """PHP-06: every shared vector gives its statement and its fingerprint in Python."""
    lines = VECTORS.read_text("utf-8").splitlines()[1:]
    assert len(lines) >= 200
    for line in lines:
        dialect, sql, expected, name = line.split("\t")
        got = statement(unescape(sql), dialect)
        assert (dialect, sql, got.encode()) == (dialect, sql, unescape(expected))
        assert fingerprint(got) == name


@pytest.mark.parametrize("dialect", DIALECTS)
@given(sql=TEXTS)
@settings(deadline=None, max_examples=600)
def test_php_gives_the_same(ask: Any, dialect: str, sql: bytes) -> None:
    """PHP-06: the statement and the fingerprint of any text are byte for byte the same in Python and PHP."""
    here = statement(sql, dialect)
    there = ask(sql=encoded(sql), dialect=dialect)
    assert base64.b64decode(there["statement"]) == here.encode()
    assert there["fingerprint"] == fingerprint(here)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_php_gives_the_same_of_long_texts(ask: Any, dialect: str) -> None:
    """PHP-06: texts around and far beyond the cut agree too, and no bound of PCRE is met."""
    for piece in [*PIECES, "é", "a é", "\U0001f600", "'a', ", "(1, 'é'), ", "word ", "a=1 AND "]:
        if piece:
            for size in limits.SQL_INPUT_BYTES - 1, limits.SQL_INPUT_BYTES, 5 * limits.SQL_INPUT_BYTES:
                for start in "", "x", "INSERT INTO t VALUES ":
                    sql = (start + piece * (size // len(piece) + 1)).encode()[:size]
                    there = ask(sql=encoded(sql), dialect=dialect)
                    assert base64.b64decode(there["statement"]) == statement(sql, dialect).encode()


@pytest.mark.parametrize("dialect", list(CORRECT))
@given(data=st.data())
@settings(deadline=None, max_examples=600)
def test_no_literal_survives(dialect: str, data: st.DataObject) -> None:
    """PHP-09: no value of a correct text is in its statement, also not where its dialect is unknown."""
    pieces = data.draw(st.lists(st.sampled_from(CORRECT[dialect]), max_size=12))
    sql = " ".join(piece.format(*[MARK] * piece.count("{}")) for piece in pieces)
    assert MARK not in statement(sql, dialect)
    assert MARK not in statement(sql, "unknown")
    assert "42" not in statement(sql, dialect)


@pytest.mark.parametrize("dialect", ["pg", "sqlite"])
@given(sql=TEXTS)
@settings(deadline=None, max_examples=600)
def test_statement_of_a_statement(dialect: str, sql: bytes) -> None:
    """A statement is its own statement, so that an agent may read again what a client has read already."""
    text = statement(sql, dialect)
    assert statement(text, dialect) == text


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_cut_does_not_split_a_character(cut: int) -> None:
    """A text that is cut within a character of UTF-8 loses that character whole."""
    sql = "x" * (limits.SQL_INPUT_BYTES - cut) + "\U0001f600"
    assert statement(sql) == "x" * (limits.SQL_INPUT_BYTES - cut)


def test_cut_bulk_insert_is_the_short_one() -> None:
    """PHP-06: an insert of ten thousand rows, cut anywhere, has the shape and the name of an insert of one."""
    sql = "INSERT INTO t (a, b) VALUES " + ", ".join(f"({n}, 'row {n}, NULL')" for n in range(10_000))
    for length in range(1000, 1100):
        assert statement(sql[:length], "mysql") == "INSERT INTO t (a, b) VALUES (?)"
    assert statement(sql, "mysql") == statement(sql[:200], "pg") == "INSERT INTO t (a, b) VALUES (?)"


@given(text=st.text(alphabet=st.characters(), max_size=20), dialect=st.sampled_from(DIALECTS))
def test_any_text_is_read(text: str, dialect: str) -> None:
    """Nothing raises: not lone surrogates, not bytes that are no UTF-8, not an unknown dialect."""
    for sql in text, text + "\ud800", text.encode("utf-16", "surrogatepass"):
        statement(sql, dialect).encode()
    assert statement("SELECT 'a'", text) == "SELECT ?"


def test_fingerprint_covers_the_first_bytes_only() -> None:
    """A fingerprint is 16 hex digits, blind to the case of ASCII letters and to what databases cut off."""
    assert fingerprint("SELECT a") == fingerprint("select A") != fingerprint("select b")
    assert fingerprint("é") != fingerprint("É")
    text = "x" * limits.FINGERPRINT_BYTES
    assert fingerprint(text + "a") == fingerprint(text) != fingerprint(text[1:])
    assert re.fullmatch("[0-9a-f]{16}", fingerprint("\ud800"))


def test_php_has_the_numbers_of_limits() -> None:
    """The PHP copies of two limits are those of limits.py."""
    source = STATEMENT_PHP.read_text("utf-8")
    assert f"INPUT_BYTES = {limits.SQL_INPUT_BYTES};" in source
    assert f"FINGERPRINT_BYTES = {limits.FINGERPRINT_BYTES};" in source


HOSTILE = [
    "'", "''", "\\'", '"', "`", "/*", "/*!", "*/", "/**/", "$$", "$a", "$a$", "(", "(1,", "((1),", "(1),", "VALUES(",
    "VALUES(1),(", "[a", "[", "--", "-- \r", "#", "-1", "- -1 ", "1e-", ".1", "N'", "E'\n", " ;", ":", "%", "?", "a ",
    "\0", "\xff",
]  # fmt: skip


def assert_linear(seconds: Callable[[bytes], float]) -> None:
    """Four times the text takes four times the time, or up to eight on a busy machine; were it quadratic, sixteen."""
    size = 20_000
    for piece in HOSTILE:
        text = (piece * (4 * size // len(piece))).encode("latin-1")
        for _ in range(5):
            once, four = (min(seconds(part) for _ in range(3)) for part in (text[:size], text))
            if four < 8 * once + 0.002:
                break
        else:
            pytest.fail(f"{piece!r}: {once:.4f} s and {four:.4f} s")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_time_grows_linearly(dialect: str) -> None:
    """PHP-06: the time to read a hostile text, uncut, grows with its length and not with its square."""

    def seconds(sql: bytes) -> float:
        before = time.process_time()
        sqltext._fold(sqltext._without_literals(sql, dialect))
        return time.process_time() - before

    assert_linear(seconds)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_time_grows_linearly_in_php(ask: Any, dialect: str) -> None:
    """PHP-06: the same of the PHP client, where it costs the visitor."""
    assert_linear(lambda sql: ask(seconds=encoded(sql), dialect=dialect)["seconds"])
