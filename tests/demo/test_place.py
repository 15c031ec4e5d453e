"""The demo's directory: one demo at a time, short paths, settings that the daemons accept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitville_apm.agent.config import read_agent
from bitville_apm.collector.config import read_collector
from bitville_apm.demo.place import HOME_BYTES, Place, PlaceError, default_state


def test_one_demo_at_a_time(tmp_path: Path) -> None:
    """A second demo in the same directory is refused, with the number of the first; afterwards it is free again."""
    with Place.taken(tmp_path / "d", {}):
        second = (
            "from bitville_apm.demo.place import Place; from pathlib import Path\nwith Place.taken(Path('d'), {}): pass"
        )
        done = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True, check=False)
        assert f"already running in {tmp_path / 'd'} (process {os.getpid()})" in done.stderr
    with Place.taken(tmp_path / "d", {}):
        pass


def test_a_long_directory_gets_a_short_name(tmp_path: Path) -> None:
    """A UNIX socket's path has 108 bytes: a longer directory is reached through a link, which goes with the demo."""
    long = tmp_path / ("d" * 100)
    with Place.taken(long, {"XDG_RUNTIME_DIR": ""}) as place:
        assert len(str(place.home)) <= HOME_BYTES
        assert place.home.resolve() == long.resolve()
        assert len(str(place.home / "agent" / "control.sock")) < 108
        home = place.home
    assert not home.is_symlink()
    home.symlink_to("/somewhere/else")  # as kill -9 would leave it
    with Place.taken(long, {}) as place:
        assert place.home.resolve() == long.resolve()


def test_a_name_that_is_taken_is_not_followed(tmp_path: Path) -> None:
    """What lies under the link's name and is no link of ours is left alone; the demo takes another or says so."""
    long, run = tmp_path / ("d" * 100), tmp_path / "r"
    run.mkdir()
    with Place.taken(long, {"XDG_RUNTIME_DIR": str(run)}) as place:
        name = place.home.name
        used_run = place.home.parent == run
    if used_run:
        (run / name).mkdir()
        with Place.taken(long, {"XDG_RUNTIME_DIR": str(run)}) as place:
            assert place.home.parent != run
        assert (run / name).is_dir()


def test_the_settings_are_accepted(tmp_path: Path) -> None:
    """DAEMON-16: agent.ini and collector.ini are read, meet each other, and are not for everybody."""
    with Place.taken(tmp_path / "d", {}) as place:
        place.write_settings(8500, 9300, workers=8)
        for ini in (place.agent_ini, place.collector_ini, place.profiling_ini):
            assert ini.stat().st_mode & 0o777 == 0o640
        agent = read_agent(place.agent_ini, {})
        collector = read_collector(place.collector_ini, {})
        assert agent.collector.url == f"http://{collector.collector.listen}"
        assert agent.collector.key_file.parent == collector.collector.data
        assert agent.php[0].socket.parent == agent.agent.heartbeat.parent
        assert agent.php[0].fpm_status[0].most == 8
        profiling = place.profiling_ini.read_text()
        assert f'"{agent.php[0].socket}"' in profiling
        assert f'"{agent.php[0].spool}"' in profiling


def test_an_impossible_directory_is_said(tmp_path: Path) -> None:
    """A path that cannot be a directory is one line, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="file"), Place.taken(tmp_path / "file" / "d", {}):
        pass


def test_where_it_is_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """$XDG_STATE_HOME counts when it is an absolute path, as its specification says."""
    monkeypatch.setenv("HOME", "/home/u")
    assert default_state({"XDG_STATE_HOME": "/s"}) == Path("/s/bitville-apm/demo")
    for unusable in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        assert default_state(unusable) == Path("/home/u/.local/state/bitville-apm/demo")
