"""Statements of sessions and the requests they belong to."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits, sqltext
from bitville_apm.agent.postgres.names import HIDDEN, correlation, leading_comments, named

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"


@pytest.mark.parametrize(
    ("application", "text", "expected"),
    [
        (f"bitville-{ID}", "select 1", ID),
        (f"bitville-{ID.upper()}", None, ID),
        (f"bitville-{ID.replace('-', '')}", "", ID),
        ("", f"/* correlation:{ID} */ select 1", ID),
        ("psql", f"/*correlation:{ID}*/select 1", ID),
        ("", f"select 1 /*application='shop',correlation_id='{ID}',route='%2Fcart'*/", ID),
        ("", f"select 1 /*correlation='{ID}'*/", ID),
        ("", f"select 1 /*db_driver='x',traceparent='00-{ID.replace('-', '')}-00f067aa0ba902b7-01'*/", ID),
        ("", f"/*traceparent='00-{'a' * 32}-{'b' * 16}-01'*/ /* correlation:{ID} */ select 1", ID),
        ("bitville-apm", "select 1", None),
        (f"x-bitville-{ID}", f"select '{ID}'", None),
        ("", f"-- correlation:{ID}\nselect 1", None),
        (None, None, None),
    ],
)
def test_every_way_a_request_is_named(application: str | None, text: str | None, expected: str | None) -> None:
    """PG-05: the request's id from the session's name, our comment, and sqlcommenter's; from nothing else."""
    assert correlation(application, text) == expected


def test_an_id_of_another_shape_is_stored_under_one_of_ours() -> None:
    """PG-05: an application's own correlation id, URL-encoded, becomes the UUID that its record is stored under."""
    told = correlation("", "select 1 /*correlation_id='order%2F17'*/")
    assert told is not None
    assert uuid.UUID(told).version == 5


@given(st.text(), st.text())
def test_any_text_is_read(application: str, text: str) -> None:
    """PG-05: whatever a session is called and runs, looking for an id in it raises nothing."""
    correlation(application, text)
    correlation(application, f"/*{text}*/")
    named(text)


def test_a_statement_is_named_as_php_names_it() -> None:
    """PG-01: a server's own text, with another comment in each request, has the fingerprint of what PHP sent."""
    sent = "SELECT * FROM orders WHERE id = :id AND note = 'x' LIMIT 5"
    seen = f"/* correlation:{ID} */ SELECT * FROM orders WHERE id = $1 AND note = 'other' LIMIT 7"
    ours = named(seen)
    assert ours is not None
    assert ours.fingerprint == sqltext.fingerprint(sqltext.statement(sent, "pg"))
    assert ours.value == "SELECT * FROM orders WHERE id = ? AND note = ? LIMIT ?"


def test_a_long_statement_has_one_name_however_much_of_it_is_shown() -> None:
    """PG-01: 1,023 bytes of a statement without values give the value that the whole of it has in frames."""
    whole = "SELECT " + ", ".join(f"column_{n}" for n in range(300)) + " FROM wide"
    cut = named(whole[:1023])
    assert cut is not None
    assert cut.value == sqltext.value(sqltext.statement(whole, "pg"))
    assert cut.fingerprint == sqltext.fingerprint(sqltext.statement(whole, "pg"))
    assert len(cut.value) == limits.FINGERPRINT_BYTES


@given(st.text(max_size=20).map(lambda text: text * 60))
def test_what_frames_call_a_statement_is_as_long_as_its_fingerprint_sees(text: str) -> None:
    """PG-01: cutting a statement to its value splits no character, and done again changes nothing."""
    value = sqltext.value(text)
    assert text.startswith(value)
    assert sqltext.value(value) == value
    size = len(value.encode("utf-8", "surrogatepass"))
    assert value == text or limits.FINGERPRINT_BYTES - 4 < size <= limits.FINGERPRINT_BYTES
    if text.isascii():
        assert sqltext.fingerprint(value) == sqltext.fingerprint(text)


def test_half_a_comment_behind_a_statement_is_no_part_of_its_name() -> None:
    """PG-01, PG-05: a server cuts a text within sqlcommenter's comment: the statement before it keeps its name."""
    whole = "SELECT 'x' FROM wide WHERE note IN (" + ", ".join(["'abcdefgh'"] * 75) + ")"
    cut = named((whole + " /*application='shop',route='" + "r" * 500)[:1023])
    assert cut is not None
    assert cut.value == "SELECT ? FROM wide WHERE note IN (?)"


def test_what_is_hidden_has_no_name() -> None:
    """PG-08: what a role may not see is no statement."""
    assert named(HIDDEN) is None
    assert named("") is None
    assert named("/* only */") is None
    assert leading_comments("/* a */ /* b */ select 1 /* c */") == "/* a */ /* b */ "
