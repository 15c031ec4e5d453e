"""What a collector refuses for good: kept for a person, bounded, and in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bitville_apm import limits
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.totals import Count
from tests.agent.forward_rig import ForwardCase


class QuarantineTests(ForwardCase):
    """Items that a collector does not take."""

    async def test_a_batch_too_large_is_halved_and_one_item_too_large_set_aside(self) -> None:
        """413: the good ones beside it arrive, the one that never fits is in quarantine, nothing blocks."""
        rig = await self.rig()
        ids = rig.records(9)
        poison = ids[4]

        def too_large(items: list[dict[str, Any]]) -> Any:
            return (413, {}, b"") if any(item["id"] == poison for item in items) else None

        self.collector.behaviour = too_large
        await rig.flush()
        assert self.collector.order == [i for i in ids if i != poison]
        (kept,) = (self.directory / "quarantine").glob("*.json")
        assert poison in json.loads(kept.read_text())["body"]
        assert (rig.became.dropped_oversize, rig.forward.pending) == (Count(1, 1), 0)
        assert rig.status == ("ok", "closed", 0)

    async def test_rejected_items_are_kept_for_a_person_and_block_nobody(self) -> None:
        """faults 9: rejected items go to quarantine with their reason, are counted, and are no failure."""
        rig = await self.rig()
        ids = rig.records(4)
        fields = [{"field": "ms", "problem": "missing"}]
        rejected = [{"line": n, "id": ids[n - 1], "reason": "invalid", "fields": fields} for n in (2, 4)]
        self.collector.behaviour = lambda items: (
            200,
            {},
            json.dumps({"success": True, "stored": 2, "duplicate": 0, "rejected": rejected}).encode(),
        )
        await rig.flush()
        kept = [json.loads(p.read_text()) for p in sorted((self.directory / "quarantine").iterdir())]
        assert {k["reason"] for k in kept} == {"invalid"}
        assert all(k["details"] == fields for k in kept)
        assert {json.loads(k["body"])["id"] for k in kept} == {ids[1], ids[3]}
        assert (rig.became.stored, rig.became.quarantined, rig.forward.pending) == (Count(2, 2), Count(2, 2), 0)
        assert rig.status == ("ok", "closed", 0)

    async def test_an_answer_that_does_not_account_for_each_item_is_none(self) -> None:
        """A proxy's own 200, or a line nobody sent: nothing is let go of, and it counts as a failure."""
        rig = await self.rig()
        ids = rig.records(2)
        answers: list[Any] = [
            {"stored": 0},
            {"stored": 3},
            {"stored": 3, "duplicate": -1},
            {"stored": 0, "rejected": [{"line": 1}, {"line": 1}]},
        ]
        for n, answer in enumerate(answers, 1):
            self.collector.behaviour = lambda items, answer=answer: (200, {}, json.dumps(answer).encode())
            await rig.flush()
            assert rig.status == ("degraded", "closed", n)
        assert rig.forward.pending == 2
        self.collector.behaviour = lambda items: None
        await rig.flush()
        assert self.collector.order == ids

    async def test_something_on_the_way_that_refuses_everything_does_not_empty_the_journal(self) -> None:
        """A proxy that lets nothing large through answers 413 to single items too: after ten in a row it is not
        their fault. Health fails, one a minute is tried, and what is left arrives when the proxy is mended.
        """
        for status in (413, 400):
            rig = await self.rig(self.directory / str(status))
            ids = rig.records(60)
            self.collector.behaviour = lambda items, status=status: (status, {}, b'{"message":"too large"}')
            for _ in range(11):
                await rig.flush()
            assert rig.status == ("failing", "closed", 0)
            refused = limits.REFUSED_IN_A_ROW
            assert rig.forward.pending == 60 - refused
            await rig.flush(61.0)
            refused += 1
            assert rig.forward.pending == 60 - refused
            self.collector.behaviour = lambda items: None
            await rig.flush(61.0)
            assert rig.status == ("ok", "closed", 0)
            assert self.collector.order[-60 + refused :] == ids[refused:]
            lost = Count(refused, refused)
            assert (rig.became.dropped_oversize, rig.became.quarantined)[status == 400] == lost

    async def test_a_quarantine_that_cannot_be_written_keeps_the_record(self) -> None:
        """A refused item is only let go once it is written down: a full disk loses nothing."""
        rig = await self.rig()
        ids = rig.records(1)
        (self.directory / "quarantine").write_text("in the way")
        answer = {"success": True, "stored": 0, "duplicate": 0, "rejected": [{"line": 1, "reason": "invalid"}]}
        self.collector.behaviour = lambda items: (200, {}, json.dumps(answer).encode())
        await rig.flush()
        assert rig.forward.pending == 1
        (self.directory / "quarantine").unlink()
        await rig.flush()
        assert rig.forward.pending == 0
        (kept,) = (self.directory / "quarantine").iterdir()
        assert ids[0] in kept.read_text()


def test_quarantine_is_bounded_oldest_out_first(tmp_path: Path, monkeypatch: Any) -> None:
    """Bounded in files and in bytes, also over restarts; what is newest stays."""
    monkeypatch.setattr(limits, "QUARANTINE_FILES", 5)
    quarantine = Quarantine(tmp_path)
    for n in range(12):
        if n == 7:
            quarantine = Quarantine(tmp_path)
        quarantine.keep(1_795_231_261_000 + n, "invalid", [], b"%d" % n)
    kept = sorted(tmp_path.iterdir())
    assert [json.loads(p.read_text())["body"] for p in kept] == ["7", "8", "9", "10", "11"]
    monkeypatch.setattr(limits, "QUARANTINE_BYTES", 300)
    quarantine.keep(1_795_231_262_000, "invalid", [], b"x" * 200)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 300
    quarantine.keep(1_795_231_263_000, "invalid", [], b"x" * 2000)
    assert len(list(tmp_path.iterdir())) == 1
