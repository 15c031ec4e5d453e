"""What `bitville` says when it cannot do what it was asked: one line that a person can use, and no stack."""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm.cli import main, parser
from bitville_apm.store.sqlite import Main


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    """The settings of a collector that has run."""
    (tmp_path / "data").mkdir()
    Main.open(tmp_path / "data").close()
    path = tmp_path / "collector.ini"
    path.write_text(f"[collector]\ndata = {tmp_path}/data\n")
    path.chmod(0o640)
    return path


def complaint(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line of a command that ends with exit code 1."""
    assert main([str(word) for word in words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bitville: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", ["key list", "user list", "spikes", "top", "backup"])
def test_a_main_db_that_is_none(ini: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Faults 16: a damaged main.db is named, with who saves what can be read."""
    (ini.parent / "data" / "main.db").write_bytes(b"no database" * 1000)
    said = complaint(capsys, *command.split(), "--config", ini)
    assert f"{ini.parent}/data/main.db cannot be used: file is not a database; start the collector" in said


def test_damage_that_is_met_on_the_way(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults 16: so is one that opens, and has no such table."""
    db = sqlite3.connect(ini.parent / "data" / "main.db")
    db.execute("DROP TABLE key")
    db.close()
    assert "main.db: no such table: key; restart the collector" in complaint(capsys, "key", "list", "--config", ini)


def test_a_place_that_cannot_be_written(ini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that cannot be made is named."""
    assert "/proc/nowhere: No such file" in complaint(capsys, "backup", "--config", ini, "--to", "/proc/nowhere")
    assert f"{ini}: File exists" in complaint(capsys, "backup", "--config", ini, "--to", ini)
    assert "/proc/nowhere: No such file" in complaint(capsys, "cert", "new", "--to", "/proc/nowhere")


def test_nobody_reads_it_any_more() -> None:
    """`bitville … | head`: it ends as other programs do, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [str(Path(sys.executable).with_name("bitville")), "postgres", "setup"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def commands(whole: argparse.ArgumentParser, words: str = "bitville") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser."""
    yield words, whole
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest for choice in action._choices_actions if choice.help}
            assert told == set(action.choices), f"{words}: what is each for?"
            for name, own in action.choices.items():
                yield from commands(own, f"{words} {name}")


EVERY = list(commands(parser()))


@pytest.mark.parametrize(("words", "own"), EVERY, ids=[words for words, _ in EVERY])
def test_every_word_is_explained(words: str, own: argparse.ArgumentParser) -> None:
    """Whatever can be given to a command is explained by its `--help`."""
    for action in own._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{words} {action.option_strings or action.dest}"
