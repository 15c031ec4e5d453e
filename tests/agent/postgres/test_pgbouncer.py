"""Behind a real PgBouncer in transaction mode, whatever it does with what a connection asks for at its start."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.agent.postgres.link import Link, TooSlow
from bitville_apm.agent.postgres.looker import Looker
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.statistics import Statistics
from tests.agent.postgres.server import Client, Server, owner, until
from tests.agent.rig import free_port
from tests.tools import require

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"


@contextlib.contextmanager
def pooling(server: Server, more: str) -> Iterator[int]:
    """The port of a pooler in front of a server: two connections of it for everybody."""
    require("pgbouncer")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bvpgb", ignore_cleanup_errors=True) as root:
        folder = Path(root)
        (folder / "users").write_text('"bitville" ""\n"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.root} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = 2\n{more}\n"
        )
        as_other = []
        if os.geteuid() == 0:
            as_other = ["runuser", "-u", owner(), "--"]
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, owner())
        path = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
        process = subprocess.Popen(
            [*as_other, str(path), "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: _listens(port))
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize("more", ["", pytest.param("ignore_startup_parameters = options", marks=pytest.mark.full)])
def test_behind_a_pooler(postgres: Server, more: str) -> None:
    """PG-07, PG-08: where a pooler refuses our limits or throws them away, each transaction sets them; sessions,
    statements and a request's id are seen as they are without it.
    """
    with pooling(postgres, more) as port:
        dsn = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        look = Looker(Link(dsn), Pace(limits.PG_LOOK_S), Texts(), time.time)
        sums = Statistics(Link(dsn), Pace(limits.PG_STATISTICS_S), look.texts, time.time)
        try:
            assert look.link.open().pooled
            sums.read()
            client = Client(
                postgres, "SELECT pg_sleep(9)", application=f"bitville-{ID}", host="127.0.0.1", port=str(port)
            )
            seen = until(lambda: (s := look.look()).tally.active and s)
            assert list(seen.tally.tables["statement"]) == ["SELECT pg_sleep(?)"]
            assert seen.facts.local
            time.sleep(limits.PG_REQUEST_MS / 1000)
            look.look()
            client.end()
            assert {o.correlation for o in look.window.flush(time.time())} == {None, ID}
            with pytest.raises(TooSlow):
                look.link.rows("SELECT pg_sleep(20)")
            for setting, value in (
                ("transaction_read_only", "on"),
                ("statement_timeout", "1s"),
                ("lock_timeout", "100ms"),
            ):
                assert look.link.rows(f"SELECT current_setting('{setting}')") == [(value,)]
            assert sums.missing == {}
            assert postgres.sql("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
        finally:
            look.close()
            sums.close()
