"""The list of promises is complete and true."""

from __future__ import annotations

from tests import requirements


def test_the_list_says_which_tests_prove_what() -> None:
    """CFG-08: docs/requirements.md names for every promise the tests that claim it, as they are now."""
    written = set(requirements.DOCUMENT.read_text().splitlines())
    stale = [line.split(" | ")[0] for line in requirements.rewritten().splitlines() if line not in written]
    assert not stale, "run make requirements"


def test_every_claimed_promise_is_in_the_list() -> None:
    """CFG-08: no test claims an id that readers cannot look up, and no id stands there twice."""
    listed = [id_ for _number, id_, _promise, _tests in requirements.rows()]
    assert len(listed) == len(set(listed))
    assert set(requirements.tests_by_id()) <= set(listed)
