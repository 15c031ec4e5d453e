"""A report as Markdown: for a ticket, a chat or a mail (VIZ-04). Pure.

Whatever comes out of records stands in code spans, which nothing in them can leave; all other text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bitville_apm.analysis.report import Report
from bitville_apm.analysis.telling import NOTHING, Line, Table, Text, parts, shown

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&])")
_TICKS = re.compile(r"`+")


def markdown(report: Report, link: str | None = None) -> str:
    """The whole report; `link` is its page."""
    return "\n".join(_lines(report, link)) + "\n"


def _lines(report: Report, link: str | None) -> Iterator[str]:
    yield f"# {escaped(shown(report.verdict))}"
    for part in parts(report):
        yield ""
        yield f"## {escaped(part.title)}"
        yield ""
        yield from (f"- {line(one)}" for one in part.lines)
        if part.table is not None and part.table.rows:
            yield from ([""] if part.lines else [])
            yield from _table(part.table)
    if link is not None:
        yield ""
        yield f"<{link}>"


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(map(escaped, table.head))} |"
    yield f"|{'|'.join(' ---: ' if n in table.numbers else ' --- ' for n in range(len(table.head)))}|"
    for row in table.rows:
        yield f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') if cell.code else _text(cell) for cell in row)} |"


def line(texts: Line) -> str:
    """One line of texts. What stands in front of the first name keeps its place in a tree by no-break spaces."""
    return "".join(_text(one) for one in texts)


def _text(one: Text) -> str:
    if not one.code:
        return escaped(one.text.replace("  ", "\u00a0\u00a0"))
    if not one.text.strip():
        return NOTHING
    fence = "`" * (max((len(ticks) for ticks in _TICKS.findall(one.text)), default=0) + 1)
    space = " " if one.text[0] in "` " or one.text[-1] in "` " else ""
    return f"{fence}{space}{one.text}{space}{fence}"


def escaped(text: str) -> str:
    """Plain text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", text)
