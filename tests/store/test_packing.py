"""Frames as a day file keeps them come back as they were."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.records import Frame
from bitville_apm.store.sqlite import packing

numbers = st.one_of(
    st.lists(st.integers(0, limits.NUMBER_MAX), max_size=6),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
    st.lists(st.one_of(st.integers(0, 9), st.floats(0, 1e6).map(lambda x: round(x, 3))), max_size=6),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6),
    st.lists(st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=3)), max_size=6),
    st.lists(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2**32 - 1)).map(list), max_size=5), max_size=6),
)
tables = st.fixed_dictionaries(
    {"values": st.lists(st.text(max_size=5), max_size=6), "columns": st.dictionaries(st.text(max_size=4), numbers)}
)
names = st.text(max_size=4)
count = st.integers(0, 2**40)
links = st.tuples(names, names, names, names, count, st.one_of(st.none(), count), st.floats(0, 1e9)).map(list)


@settings(max_examples=300, deadline=None)
@given(cells=st.dictionaries(names, tables, max_size=4), linked=st.lists(links, max_size=4), extra=st.text())
def test_a_frame_comes_back(cells: object, linked: object, extra: str) -> None:
    """design 6: whatever a frame holds, packed and unpacked it is equal to what came, unknown fields included."""
    plain = {"id": "a", "at": 10.0, "secs": 10, "v": 2, "cells": cells, "links": linked, "later": extra}
    plain = json.loads(msgspec.json.encode(plain))
    known: list[str] = []

    def number(name: str) -> int:
        known.append(name)
        return len(known) - 1

    packed = packing.packed(msgspec.json.encode(plain), number)
    assert packing.unpacked(packed, known.__getitem__) == msgspec.convert(plain, Frame)
    assert json.loads(packing.body_of(packed, known.__getitem__)) == plain


def test_a_frame_cut_short_is_told() -> None:
    """Faults 16: a frame whose arrays end too early is an error, not a frame of zeros."""
    body = {"id": "a", "at": 1.0, "secs": 1, "v": 2, "cells": {"x": {"values": ["a"], "columns": {"n": [7]}}}}
    packed = packing.packed(json.dumps(body).encode(), lambda name: 5)
    with pytest.raises(ValueError, match="too early"):
        packing.unpacked(packed[:-1], str)
