"""What a frame's cells may hold: checked on arrival, since they are added up and a wrong one would spoil the sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bitville_apm import limits
from bitville_apm.cells import Columns
from bitville_apm.checks import Problem
from bitville_apm.records import Frame

_KNOWN = frozenset(Columns.__struct_fields__)


def problems(frame: Frame) -> Iterator[Problem]:
    """Everything wrong with a frame's cells. Dimensions and columns we do not know are left alone."""
    if len(frame.cells) > limits.FRAME_DIMENSIONS:
        yield Problem("cells", f"more than {limits.FRAME_DIMENSIONS} dimensions")
        return
    for dimension, table in frame.cells.items():
        where = f"cells.{dimension}"
        if len(table.values) > limits.VALUES_HELD:
            yield Problem(f"{where}.values", f"more than {limits.VALUES_HELD} values")
        for name, column in table.columns.items():
            if name not in _KNOWN:
                continue
            if len(column) not in (0, len(table.values)):
                yield Problem(f"{where}.columns.{name}", f"{len(column)} numbers for {len(table.values)} values")
            wrong = _is_no_histogram if name == "histogram" else _is_no_number
            yield from (
                Problem(f"{where}.columns.{name}[{row}]", "not a number of a size that adds up")
                for row, value in enumerate(column)
                if value is not None and wrong(value)
            )


def _is_no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limits.NUMBER_MAX


def _is_no_histogram(value: Any) -> bool:
    return not isinstance(value, list) or not all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        and 0 <= pair[0] <= limits.HISTOGRAM_BUCKET
        and 0 <= pair[1] <= limits.HISTOGRAM_COUNT
        for pair in value
    )
