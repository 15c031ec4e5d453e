"""What a store keeps of slow drifts; see `contract.py`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.store.interface import Drifts, Projects
from tests.store.contract import BLOG, SHOP, Contract, Open, quick
from tests.store.make import DAY, NOON, drifts

MIDNIGHT = NOON - DAY / 2


class DriftsContract(Contract):
    """One night of each project, seen by those who may."""

    @quick
    @given(
        st.lists(
            st.builds(
                lambda project, day, n: drifts(project, MIDNIGHT - day * DAY, left_out=n),
                st.sampled_from(["shop", "blog"]), st.integers(0, 3), st.integers(0, 9),
            ),
            max_size=6,
        ),
        st.sampled_from([None, SHOP, BLOG, frozenset({"nobody"})]),
    )  # fmt: skip
    def test_the_last_night_of_each_project(self, kept: list[Drifts], projects: Projects) -> None:
        """STOR-04, ADV-02: of each of the caller's projects the last night is kept."""
        with self.open() as opened:
            last: dict[str, Drifts] = {}
            for night in kept:
                opened.pump.ask(opened.store.keep_drifts(night))
                last[night.project] = night
            wanted = [last[name] for name in sorted(last) if projects is None or name in projects]
            assert list(opened.pump.ask(opened.store.drifts(projects))) == wanted

    def test_what_it_found_comes_back_whole(self, opened: Open) -> None:
        """ADV-02: what was found is kept as it was given, however much it is."""
        night = drifts("shop", found=b'["\xc3\xbc"]' * 50_000)
        opened.pump.ask(opened.store.keep_drifts(night))
        assert opened.pump.ask(opened.store.drifts(None)) == [night]

    def test_a_project_that_is_gone_is_forgotten(self, opened: Open) -> None:
        """STOR-02: of a project without any day for as long as hours are kept, no night is kept either."""
        ask, store = opened.pump.ask, opened.store
        age = limits.HOURS_KEPT_DAYS * DAY
        for night in (drifts("old", NOON - age - 1), drifts("young", NOON - age + 1)):
            ask(store.keep_drifts(night))
        ask(store.clean_up())
        assert [night.project for night in ask(store.drifts(None))] == ["young"]
