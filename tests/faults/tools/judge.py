"""What must hold whatever happens, stated once. Each function raises `AssertionError` with the figures.

I1 every acked request is counted exactly once, and a whole one stored exactly once: `stored_once`, `counted_once`,
   against the senders' own tally. I2 the ledger balances: `balanced`. I3 health answers within 250 ms: `Watch`.
I4 memory and disk stay in their bounds: `memory_mb`, `disk_bytes`. I5 the application waits 55 ms at most: `waits`.
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.agent.rig import Agent, wait_until
from tests.collector.rig import Rig
from tests.faults.tools.clients import Tally

HEALTH_MS = 250.0
CLIENT_MS = 55.0
MEMORY_MB = 256.0


@attrs.frozen
class Verdict:
    """What `stored_once` found, for a progress line."""

    lost: int
    doubled: int


def stored_once(tally: Tally, stored: Iterable[str]) -> Verdict:
    """I1: every whole record of the tally is among the stored ids, and no id is there twice."""
    times = Counter(stored)
    lost = [id_ for id_ in tally.whole if not times[id_]]
    doubled = [id_ for id_, n in times.items() if n > 1]
    assert not lost, f"{len(lost)} of {len(tally.whole)} acked records lost, such as {lost[:3]}"
    assert not doubled, f"{len(doubled)} records stored twice, such as {doubled[:3]}"
    return Verdict(len(lost), len(doubled))


def counted_once(tally: Tally, counted: Mapping[str, int]) -> None:
    """I1: each endpoint's cells hold its requests, short ones too; those sent without an ack may be in or not."""
    sure = tally.short + tally.whole_at
    wrong = {
        name: (counted.get(name, 0), sure[name], tally.unsure[name])
        for name in sure.keys() | tally.unsure.keys() | counted.keys()
        if not sure[name] <= counted.get(name, 0) <= sure[name] + tally.unsure[name]
    }
    assert not wrong, f"(counted, made for certain, unsure) of {len(wrong)} endpoints: {dict(list(wrong.items())[:5])}"


def counted_soon(tally: Tally, counted: Callable[[], Mapping[str, int]], seconds: float = 40.0) -> None:
    """The same once the last windows are sealed, late ones too: within that time, and still so a moment later."""
    until = time.monotonic() + seconds
    while True:
        try:
            counted_once(tally, counted())
            break
        except AssertionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
    time.sleep(1.0)
    counted_once(tally, counted())


def kept_once(tally: Tally, collector: Rig, key: str) -> Verdict:
    """I1 with a real collector: what it stored and what it counted. A request that was begun may be told as died, and
    its end follows: that is no second record.
    """
    verdict = stored_once(tally, [item["id"] for item in collector.stored(key) if not item["died"]])
    counted_soon(tally, lambda: collector.counted(key))
    return verdict


def delivered(agent: Agent, seconds: float) -> None:
    """Waits until the spool is imported and the collector has acknowledged everything, that long for each."""
    wait_until(lambda: not [*agent.spool.glob("profile_*"), *agent.spool.glob("*.ndjson")], seconds, "spool imported")
    wait_until(lambda: agent.ledger()["pending"] == 0, seconds, "everything delivered")


def whole(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of the whole records that a collector's stand-in took."""
    return [item["id"] for item in items if item["k"] in ("end", "v1") and not item["body"].get("short")]


def counted(items: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Requests by endpoint as a collector counts them: by its frames, and by records that no frame counts."""
    found: Counter[str] = Counter()
    for item in items:
        if item["k"] == "frame":
            cells = item["body"]["cells"].get("endpoint", {"values": [], "columns": {}})
            found.update(dict(zip(cells["values"], cells["columns"].get("requests", []), strict=False)))
        elif item["k"] in ("end", "v1") and not item["framed"]:
            request = item["body"]["request"]
            found[f"{request['method']} {request['uri']}"] += 1
    return found


def ledger_error(numbers: Mapping[str, Any]) -> int:
    """What is missing in a pipeline's ledger: the agent's own sum, or what came in since its start."""
    if "error" in numbers:
        return int(numbers["error"])
    return int(numbers["received"] - sum(numbers[n] for n in ("journalled", "duplicate", "invalid", "unwritten")))


def balanced(agent: Agent) -> None:
    """I2: nothing that came in is unaccounted for."""
    for name, numbers in agent.health()["stats"]["ledger"].items():
        assert ledger_error(numbers) == 0, f"ledger of {name}: {numbers}"


def share_below(ms: float, took: Sequence[float]) -> float:
    """Which share of these times stays below a bound."""
    return sum(t <= ms for t in took) / len(took)


def told(took: Sequence[float]) -> str:
    """Times in words: how many, median, 99th, longest."""
    ordered = sorted(took)
    median, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"{len(ordered)} times: median {median:.1f} ms, p99 {high:.1f} ms, max {ordered[-1]:.1f} ms"


def waits(took: Sequence[float], ms: float = CLIENT_MS, share: float = 0.99) -> None:
    """I5, I3: that share of times is within the bound; a busy machine may take the processor away from the rest."""
    assert took, "nothing was timed"
    assert share_below(ms, took) >= share, f"within {ms} ms: {share_below(ms, took):.1%}; {told(took)}"


class Watch(threading.Thread):
    """Asks `/health` ten times a second and keeps how long each answer took, less this thread's own wait for a CPU.

    `entered` may bring the thread into a namespace first.
    """

    def __init__(
        self, agent: Agent, entered: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        super().__init__(daemon=True, name="watch")
        self.took: list[float] = []
        self.failed: list[str] = []
        self._url = f"http://127.0.0.1:{agent.health_port}/health"
        self._entered = entered
        self._over = threading.Event()

    def run(self) -> None:
        with self._entered():
            while not self._over.wait(0.1):
                began, waited = time.monotonic(), run_delay()
                try:
                    with urllib.request.urlopen(self._url, timeout=5) as answer:
                        answer.read()
                except urllib.error.HTTPError as error:
                    error.close()
                except OSError as error:
                    self.failed.append(str(error))
                    continue
                self.took.append((time.monotonic() - began) * 1000 - (run_delay() - waited))

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self.join(10)

    def judge(self) -> None:
        """I3: health always answered, and within its bound."""
        assert not self.failed, f"{len(self.failed)} times no answer: {self.failed[:3]}"
        waits(self.took, HEALTH_MS)


def run_delay() -> float:
    """Milliseconds this thread was runnable and waited for a CPU so far; 0 where the kernel does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6
    except (OSError, IndexError):
        return 0.0


def memory_mb(pid: int, peak: bool = True) -> float:
    """I4: resident memory of a process, the highest so far or now."""
    key = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def disk_bytes(directory: Path) -> int:
    """I4: how long the files below a directory are."""
    return sum(path.stat().st_size for path in _files(directory))


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
