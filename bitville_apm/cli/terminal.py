"""Reports and tables for a terminal, as wide as it is. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from bitville_apm.analysis.report import Report
from bitville_apm.analysis.telling import Line, Table, parts, shown

_INDENT = "  "
_LEAST = 8
"""Characters that a cut column keeps."""


def told(report: Report, width: int, link: str | None = None) -> Iterator[str]:
    """A report, its verdict first."""
    yield from textwrap.wrap(shown(report.verdict), width) or [""]
    for part in parts(report):
        yield ""
        yield part.title.upper()
        for line in part.lines:
            yield from wrapped(line, width)
        if part.table is not None and part.table.rows:
            yield from (_INDENT + row for row in table(part.table, width - len(_INDENT)))
    if link is not None:
        yield ""
        yield link


def wrapped(line: Line, width: int) -> list[str]:
    """A line of a report; what does not fit goes on below it, a little further in."""
    text = "".join(one.text for one in line)
    own = _INDENT + text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.strip(), width, initial_indent=own, subsequent_indent=own + _INDENT, break_long_words=True
    ) or [own]


def table(given: Table, width: int) -> Iterator[str]:
    """A table; where it is too wide the widest columns of names are cut, never ids and numbers.

    Where that is not enough each row is told in words, with the heads of its columns.
    """
    rows = [[shown(cell) for cell in given.head], *([shown(cell.text) for cell in row] for row in given.rows)]
    whole = frozenset({given.head.index("Id")} if "Id" in given.head else ())
    lines = list(columns(rows, width, given.numbers, whole))
    if max(map(len, lines)) <= width:
        yield from lines
        return
    for first, *others in rows[1:]:
        told = ", ".join(f"{head.lower()} {cell}" for head, cell in zip(rows[0][1:], others, strict=True) if cell)
        yield from textwrap.wrap(f"{first}: {told}", width, subsequent_indent=_INDENT)


def columns(
    rows: Sequence[Sequence[str]],
    width: int,
    numbers: frozenset[int] = frozenset(),
    whole: frozenset[int] = frozenset(),
) -> Iterator[str]:
    """Rows as columns two spaces apart; `numbers` stand right, those and `whole` are never cut."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    kept = [i for i, size in enumerate(widths) if size or i == 0]
    over = sum(widths[i] for i in kept) + 2 * (len(kept) - 1) - width
    while over > 0:
        most = max((i for i in kept if i not in numbers and i not in whole), key=widths.__getitem__, default=None)
        if most is None or widths[most] <= _LEAST:
            break
        others = [widths[i] for i in kept if i != most and i not in numbers and i not in whole]
        cut = min(over, max(1, widths[most] - max([_LEAST, *others])))
        widths[most] -= cut
        over -= cut
    for row in rows:
        cells = [
            _cut(row[i], widths[i]).rjust(widths[i]) if i in numbers else _cut(row[i], widths[i]).ljust(widths[i])
            for i in kept
        ]
        yield "  ".join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
