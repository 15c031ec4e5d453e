"""The shape of a SQL text: literals out, comments out, lists folded; and the name of that shape.

A statement is shown to people and added up over hosts, so it must hold no value of the application and must come
out the same whoever reads it: this module and `php/src/Statement.php` give equal bytes for equal input, and
`tests/wire/statements.tsv` is read by the tests of both. The rules are those of wire.md 7, and these:

- The text is read once, from the left, each byte by one token; nothing is tried twice, so time grows with the length.
- Comments and control characters are white space; white space is one space, none at the ends; a final `;` goes.
- A token that begins with a digit is a number in whole (`0x1F`, `1e-5`, `1_000`, and MySQL's odd `2fa_log` too).
- A sign directly before a literal belongs to it where no operand precedes: after an operator, a comma, an opening
  bracket, or a word such as BETWEEN. `a - 5` keeps its minus.
- A list of literals becomes its first item, in `(…)` or `[…]`, and so does a list of such lists. After VALUES only the
  first row stays, whatever the others hold, so that a bulk insert has one shape however long it is or where it was cut.
- MySQL's `/*! … */` is code that the server runs: its marks are dropped, what it holds is read as SQL. An older server
  skips it instead: where that one would find another end, inside a string, the rest of the text is one literal.
- What is quoted and never closed takes the rest of the text with it, as one literal.
- `unknown` takes the rest of the text for one literal at the first place where the dialects would read on differently:
  `\\'` in a string, `--x`, `#`, `/* /*`, `/*!`, `$tag$`, a quote in `[name]`. A shorter statement, but no value in it.
"""

from __future__ import annotations

import hashlib
import re

from bitville_apm import limits

# Classes of bytes. Those above ASCII are letters, as they are to all three databases.
_FIRST = r"A-Za-z_\x80-\xff"
_WORD = _FIRST + r"0-9$"
_SPACE = r"\x00-\x20\x7f"

_TAG = rf"\$(?:[{_FIRST}][{_FIRST}0-9]*)?\$"
_NUMBER = rf"(?:(?<![{_WORD}`\"\])])\.)?[0-9](?:[eE][-+][0-9]|[{_WORD}.])*"
_MARKER = rf"\?[0-9]*|:[{_WORD}]+|\$[0-9][{_WORD}]*|%(?:[0-9]+\$)?[dfis](?![{_WORD}])"


def _string(quote: str, backslash: str = "plain") -> str:
    """A string up to its closing quote or the end of the text; a doubled quote is inside.

    A backslash is `plain`, or an `escape`, or `unsure`: an escape, but before a quote it takes all the rest.
    """
    if backslash == "plain":
        return rf"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*(?:{quote}|\Z)"
    pair, rest = (r"\\.", "") if backslash == "escape" else (rf"\\[^{quote}]", rf"|\\{quote}.*")
    return rf"{quote}[^{quote}\\]*(?:(?:{quote}{quote}|{pair})[^{quote}\\]*)*(?:{quote}|\\?\Z{rest})"


def _name(quote: str) -> str:
    """A quoted name that is closed; the look-ahead refuses half of a doubled quote as the end."""
    return rf"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}(?!{quote})"


def _pattern(*, run: str, space: str, names: str, literals: list[str], opener: str) -> re.Pattern[bytes]:
    """One token of a dialect, named by its group: 1 kept, 2 white space, 3 literal, 4 opener, 5 any other byte.

    `run` holds the bytes that open nothing in this dialect, beside those that open nothing in any. Words and single
    spaces are in the same run, for speed: a loop turn for each word would cost three times as much.
    """
    kept = (
        rf"(?:(?!(?:[bBeEnNxX]|[uU]&)')[{_FIRST}][{_WORD}]*|[=<>,;!+&|^~(){{}}\]\\{run}]| (?![{_SPACE}/#-]|\*/)"
        rf"|\.(?![0-9])|\*(?!/)|-(?!-)|/(?!\*)|::)+|{names}"
    )
    white = rf"(?:[{_SPACE}]|{space})+"
    literal = "|".join([*literals, _NUMBER, _MARKER])
    return re.compile(f"({kept})|({white})|({literal})|({opener})|(.)".encode("latin-1"), re.DOTALL)


_PREFIX = "(?:[bBnNxX]|[uU]&)?"
_ESCAPED = _string("'", "escape")
# Postgres reads a string that goes on after a line break as it read its beginning.
_POSTGRES_E = rf"[eE]{_ESCAPED}(?:[ \t\f\v]*[\r\n][ \t\r\n\f\v]*{_ESCAPED})*"
_TOKEN = {
    "mysql": _pattern(
        run=r"@\[",
        space=rf"--(?=[{_SPACE}]|\Z)[^\n]*|#[^\n]*",
        names=rf"{_name('`')}|\$[{_FIRST}][{_WORD}]*",
        literals=[_PREFIX + _ESCAPED, _string('"', "escape"), "`.*"],
        opener=r"/\*(?:M?![0-9]*)?|\*/",
    ),
    "pg": _pattern(
        run="@`#\\[",
        space=r"--[^\r\n]*",
        names=_name('"'),
        literals=[
            _PREFIX + _string("'"),
            _POSTGRES_E,
            '".*',
            rf"(?!{_TAG})\$[{_FIRST}][{_WORD}]*",
        ],
        opener=rf"/\*|{_TAG}",
    ),
    "sqlite": _pattern(
        run="#",
        space=r"--[^\n]*",
        names=rf"{_name('`')}|{_name(chr(34))}|\[[^\]]*\]",
        literals=[_PREFIX + _string("'"), r'[`"\[].*', rf"[@$][{_FIRST}][{_WORD}]*"],
        opener=r"/\*",
    ),
    "unknown": _pattern(
        run="@",
        space=rf"--(?=[{_SPACE}]|\Z)[^\r\n]*(?:\r?\n|\Z)",
        names=_name("`"),
        literals=[
            rf"(?:--|#(?![>-])|`|/\*M?!|{_TAG}|\[[{_SPACE}]*[^{_SPACE}\[\]'\"`][^\[\]'\"`]*['\"`]).*",
            _PREFIX + _string("'", "unsure"),
            _string('"', "unsure"),
            _POSTGRES_E,
            rf"\$[{_FIRST}][{_WORD}]*",
        ],
        opener=r"/\*",
    ),
}
_WHITE, _LITERAL, _OPENER = 2, 3, 4  # groups of a token

_BLANK = re.compile(f"[{_SPACE}]*".encode("latin-1"))
_COMMENT_MARK = re.compile(rb"/\*|\*/")

# The folds work on a text that holds no literal any more; names in quotes are not told apart, which can only fold more.
_SIGNED = re.compile(
    rb"(^|[=<>(,\[{+*/%|&^~!-] ?|(?<![A-Za-z_\x80-\xff0-9$.])(?:AND|BETWEEN|BY|CASE|DEFAULT|ELSE|HAVING|INTERVAL"
    rb"|LIKE|LIMIT|NOT|OFFSET|ON|OR|RETURNING|SELECT|THEN|WHEN|WHERE) )[-+]+(?=\?)",
    re.IGNORECASE,
)
_LIST = re.compile(rb"([(\[]) ?\?(?: ?, ?\?)* ?(?:([)\]])|,? ?\Z)")
_LIST_OF_LISTS = re.compile(rb"\( ?\(\?\)(?: ?, ?\(\?\))* ?(?:(\))|(?:,(?: ?\(\??)?)? ?\Z)")
_VALUES = re.compile(rb"(?<![A-Za-z_\x80-\xff0-9$.@])VALUES ?(?=\()", re.IGNORECASE)
_BRACKET = re.compile(rb"[()]")
_NEXT_ROW = re.compile(rb" ?, ?(?:(?=\()|\Z)")


def statement(sql: bytes | str, dialect: str = "unknown") -> str:
    """The text without its values, the same in Python and PHP: `WHERE id IN (4, 7)` gives `WHERE id IN (?)`.

    `dialect` is mysql, pg, sqlite or unknown; any other word is unknown. Only the first `limits.SQL_INPUT_BYTES` are
    read. Never raises: a byte that is not UTF-8 becomes U+FFFD.
    """
    data = sql.encode("utf-8", "surrogatepass") if isinstance(sql, str) else sql
    text = _fold(_without_literals(_cut(data, limits.SQL_INPUT_BYTES), dialect))
    try:
        return text.decode()
    except UnicodeDecodeError:
        return re.sub("[\udc80-\udcff]", "\ufffd", text.decode("utf-8", "surrogateescape"))


def fingerprint(statement: str) -> str:
    """The name of a statement: 16 hex digits of SHA-256 over its first bytes, ASCII letters in lower case.

    Only `limits.FINGERPRINT_BYTES` count, because databases cut the texts they show.
    """
    data = statement.encode("utf-8", "surrogatepass")[: limits.FINGERPRINT_BYTES]
    return hashlib.sha256(data.lower()).hexdigest()[:16]


def value(statement: str) -> str:
    """What frames call a statement: as much of it as its fingerprint covers.

    A database shows no more of it for sure, so that PHP and Postgres call it the same.
    """
    if len(statement) * 4 <= limits.FINGERPRINT_BYTES or (
        len(statement) <= limits.FINGERPRINT_BYTES and statement.isascii()
    ):
        return statement
    return _cut(statement.encode("utf-8", "surrogatepass"), limits.FINGERPRINT_BYTES).decode("utf-8", "surrogatepass")


def _cut(data: bytes, size: int) -> bytes:
    """The first `size` bytes, less a character that the cut would split."""
    if len(data) <= size:
        return data
    end = size
    while end > size - 3 and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[: end if data[end] & 0xC0 != 0x80 else size]


def _without_literals(sql: bytes, dialect: str) -> bytes:
    """The tokens of `sql` with `?` for each literal and one space for each stretch of white space and comments."""
    match = _TOKEN.get(dialect, _TOKEN["unknown"]).match
    out: list[bytes] = []
    position = 0
    runs_comment = False  # inside MySQL's /*! */
    while token := match(sql, position):
        position = token.end()
        kind = token.lastindex
        if runs_comment and kind != _OPENER and b"*/" in token[0]:
            out.append(b"?")
            break
        if kind == _LITERAL:
            out.append(b"?")
        elif kind == _WHITE:
            if not out or out[-1] != b" ":
                out.append(b" ")
        elif kind != _OPENER:
            out.append(token[0])
        elif token[0][:1] == b"$":
            position = _after(sql, token[0], position)
            out.append(b"?")
        elif token[0] == b"*/" and not runs_comment:
            out.append(b"*")
            position -= 1
        else:
            if token[0] == b"*/" or b"!" in token[0]:
                runs_comment = token[0] != b"*/"
            else:
                end = -1 if runs_comment else _comment_end(sql, position, dialect)
                if end < 0:
                    out.append(b"?")
                    break
                position = end
            if not out or out[-1] != b" ":
                out.append(b" ")
            position = _BLANK.match(sql, position).end()  # type: ignore[union-attr]  # matches nothing at least
    return b"".join(out)


def _comment_end(sql: bytes, start: int, dialect: str) -> int:
    """Where the comment whose inside begins at `start` ends; -1 where the dialects do not agree on it."""
    if dialect in ("mysql", "sqlite"):
        return _after(sql, b"*/", start)
    depth = 1
    for mark in _COMMENT_MARK.finditer(sql, start):
        if mark[0] == b"*/":
            depth -= 1
            if not depth:
                return mark.end()
        elif dialect != "pg":
            return -1
        else:
            depth += 1
    return len(sql)


def _after(sql: bytes, mark: bytes, start: int) -> int:
    """The position behind the next `mark`, or the end of the text."""
    found = sql.find(mark, start)
    return len(sql) if found < 0 else found + len(mark)


def _fold(text: bytes) -> bytes:
    """Signs into their literals, lists into their first item, rows of VALUES into the first; ends trimmed."""
    text = text.strip(b" ").rstrip(b" ;")
    if b"-?" in text or b"+?" in text:
        text = _SIGNED.sub(rb"\1", text)
    if b"?" in text:
        text = _LIST.sub(rb"\1?\2", text)
        text = _LIST_OF_LISTS.sub(rb"((?)\1", text)
    return _first_rows(text)


def _first_rows(text: bytes) -> bytes:
    """`VALUES (…), (…), (…)` with its first row only; one walk from left to right."""
    out: list[bytes] = []
    kept = 0
    values = _VALUES.search(text)
    while values:
        end = rows = _row_end(text, values.end())
        while more := _NEXT_ROW.match(text, rows):
            rows = _row_end(text, more.end())
        out.append(text[kept:end])
        kept = rows
        values = _VALUES.search(text, rows)
    return b"".join([*out, text[kept:]]) if out else text


def _row_end(text: bytes, start: int) -> int:
    """The position behind the bracket that closes the one at `start`, or the end of the text."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] == b"(" else -1
        if not depth:
            return bracket.end()
    return len(text)
