"""`bitville journal`: what waits on disk for the collector; whether it is whole; sending a set-aside one, or
what was refused, again.

Nothing here changes a journal, so all of it works beside a running agent, and without one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from bitville_apm import limits
from bitville_apm.agent import quarantine, survey
from bitville_apm.agent.config import AgentConfig
from bitville_apm.agent.segment import Record
from bitville_apm.agent.survey import Survey
from bitville_apm.agent.transmitter import Delivered, Failed, Transmitter, trust
from bitville_apm.cli import inis, keyring
from bitville_apm.cli.errors import NotDone
from bitville_apm.ini import ConfigError


def add_to(commands: Any) -> None:
    """The command and its actions."""
    journal = commands.add_parser("journal", help="what the agent has on disk: ls, verify, replay")
    actions = journal.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("ls", help="journals, their segments, what waits and what became of the rest")
    listing.set_defaults(act=_ls)
    verify = actions.add_parser("verify", help="read everything; exit code 1 when something is damaged or lost")
    verify.set_defaults(act=_verify)
    for action in (listing, verify):
        action.add_argument("paths", type=Path, nargs="*", metavar="DIR", help="journals (default: all of the agent's)")
    replay = actions.add_parser(
        "replay",
        help="send what is in a copied or set-aside journal, or in quarantine; what the collector has, it keeps once",
    )
    replay.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="journals, single segments, quarantines, or single files of those",
    )
    replay.add_argument("--section", metavar="NAME", help="send with the key of [php NAME] instead of [collector]'s")
    replay.set_defaults(act=_replay)
    for action in actions.choices.values():
        inis.add_options(action, "agent.ini")
        action.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    try:
        code: int = given.act(given, inis.agent(given))
    except ValueError as error:
        raise NotDone(f"journal: {error}") from None
    return code


def _surveyed(given: argparse.Namespace, settings: AgentConfig, look: Callable[[Path], Survey]) -> list[Survey]:
    found: list[Survey] = []
    top = settings.agent.state / "journal"
    if not given.paths and not top.is_dir():
        raise ConfigError(top, "no agent has run with this [agent] state; name another --config FILE, or a directory")
    for path in given.paths or [top]:
        if not path.is_dir():
            raise ConfigError(path, "is no directory of a journal")
        each = [path] if survey.is_journal(path) else list(survey.journals(path))
        if not each and given.paths:
            raise ConfigError(path, "holds no journal")
        found += [look(directory) for directory in each]
    return found


# --- ls, verify -------------------------------------------------------------------------------------------------


def _ls(given: argparse.Namespace, settings: AgentConfig) -> int:
    found = _surveyed(given, settings, survey.headers)
    if given.json:
        print(json.dumps([journal.told() for journal in found], indent=2))
    else:
        print("\n".join(line for journal in found for line in _lines(journal)) or "no journal yet")
    return 0


def _lines(journal: Survey) -> list[str]:
    at = journal.at
    lines = [
        str(journal.directory),
        f"  id        {journal.journal_id or 'unknown'}",
        f"  waits     {journal.pending.records} records, {journal.pending.requests} requests",
        f"  segments  {len(journal.segments)}, {journal.bytes / limits.MIB:.1f} MiB{_since(journal)}",
        f"  cursor    acked {_place(at.acked)}, covered {_place(at.covered)}{_state(journal)}",
    ]
    became = [f"{n} {name.replace('_', ' ')}" for name, n in journal.told()["totals"].items() if n]
    return [*lines, f"  became    {', '.join(became) or 'nothing yet'}, of {journal.entered.records} ever"]


def _since(journal: Survey) -> str:
    oldest = next((file.made_ms for file in journal.segments if file.made_ms is not None), None)
    return "" if oldest is None else f", the oldest of {keyring.when(oldest / 1000)}"


def _place(place: tuple[int, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _state(journal: Survey) -> str:
    return {
        "older": " (one of its two slots cannot be read: the last batch may be sent again)",
        "lost": " (it cannot be read: all that is here is sent again, and the collector keeps it once)",
    }.get(journal.cursor, "")


def _verify(given: argparse.Namespace, settings: AgentConfig) -> int:
    found = _surveyed(given, settings, survey.whole)
    if given.json:
        print(json.dumps([{**journal.told(), "whole": journal.is_whole} for journal in found], indent=2))
    for journal in () if given.json else found:
        lost = journal.lost
        print(f"{journal.directory}: {journal.records} records in {len(journal.segments)} segments{_state(journal)}")
        for damage in journal.damaged or ():
            print(f"  {damage.name}: bytes {damage.start} to {damage.end} are damaged")
        if lost is not None and (lost.records or lost.requests):
            print(f"  of what waits, {lost.records} records ({lost.requests} requests) are lost; all others will come")
        elif journal.damaged:
            print("  of what waits nothing is lost")
    return 0 if all(journal.is_whole for journal in found) else 1


# --- replay -----------------------------------------------------------------------------------------------------


def _replay(given: argparse.Namespace, settings: AgentConfig) -> int:
    for path in given.paths:
        if not path.exists() or (path.is_dir() and not survey.is_journal(path) and not quarantine.is_quarantine(path)):
            raise ConfigError(path, "is neither a journal, nor a segment of one, nor a quarantine with refused records")
    key = _key(settings, given.section)
    from twisted.internet import reactor

    outcome: list[Any] = []

    def ended(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    def begin() -> None:
        Deferred.fromCoroutine(_send(reactor, given.paths, settings, key)).addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    (result,) = outcome
    if not isinstance(result, dict):
        result.raiseException()
    if given.json:
        print(json.dumps(result))
    else:
        print(f"{result['stored']} stored, {result['duplicate']} were there already, {result['rejected']} rejected")
    if result["no_records"]:
        print(
            f"bitville: journal: {result['no_records']} lines in quarantine were refused by the agent itself: there is"
            " nothing in them to send",
            file=sys.stderr,
        )
    if result["error"]:
        print(f"bitville: journal: stopped, run it again: {result['error']}", file=sys.stderr)
    return 1 if result["error"] or result["rejected"] else 0


def _key(settings: AgentConfig, section: str | None) -> str:
    key = settings.collector.key
    if section is not None:
        found = [php for php in settings.php if php.name == section]
        if not found:
            raise ConfigError("agent.ini", f"there is no section [php {section}]")
        key = found[0].key or key
    if not key and settings.collector.key_file.exists():
        key = settings.collector.key_file.read_text().strip()
    if not key:
        raise ConfigError("agent.ini", "there is no key to send with: [collector] key, or key_file")
    return key


async def _send(reactor: Any, paths: list[Path], settings: AgentConfig, key: str) -> dict[str, Any]:
    ca = settings.collector.ca
    transmitter = Transmitter(
        reactor,
        maybeDeferred,
        time.time,
        settings.collector.url,
        settings.agent.host,
        trust(ca.read_bytes() if ca else None),
    )
    told: dict[str, Any] = {"stored": 0, "duplicate": 0, "rejected": 0, "no_records": 0, "error": ""}
    batch: list[Record] = []
    size, of = 0, b""
    for found in _forwardable(paths):
        if found is None:
            told["no_records"] += 1
            continue
        journal_id, record = found
        full = len(batch) == limits.BATCH_ITEMS or size + record.size > limits.BATCH_BYTES or journal_id != of
        if batch and full and not await _sent(transmitter, batch, key, of, told):
            return told
        if full:
            batch, size = [], 0
        of = journal_id
        batch.append(record)
        size += record.size
    if batch:
        await _sent(transmitter, batch, key, of, told)
    await transmitter.close()
    return told


def _forwardable(paths: Sequence[Path]) -> Iterator[tuple[bytes, Record] | None]:
    for path in paths:
        yield from quarantine.forwardable(path) if quarantine.is_quarantine(path) else survey.forwardable([path])


async def _sent(
    transmitter: Transmitter, batch: Sequence[Record], key: str, journal_id: bytes, told: dict[str, Any]
) -> bool:
    """Send a batch, or its halves when the collector finds it too large; whether to go on."""
    outcome = await transmitter.send(batch, key, journal_id, {})
    if isinstance(outcome, Delivered):
        told["stored"] += outcome.stored
        told["duplicate"] += outcome.duplicate
        told["rejected"] += len(outcome.rejected)
        return True
    failed: Failed = outcome
    if failed.kind in ("oversize", "invalid") and len(batch) > 1:
        half = len(batch) // 2
        first = await _sent(transmitter, batch[:half], key, journal_id, told)
        return first and await _sent(transmitter, batch[half:], key, journal_id, told)
    if failed.kind in ("oversize", "invalid"):
        told["rejected"] += 1
        return True
    told["error"] = failed.reason
    return False
