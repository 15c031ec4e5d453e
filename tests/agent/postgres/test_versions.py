"""Every server version there is, and a standby: what is seen of the one is seen of all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.agent.postgres.follower import Follower
from bitville_apm.agent.postgres.link import Link, Unreachable
from bitville_apm.agent.postgres.logmessages import event
from bitville_apm.agent.postgres.looker import Looker
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.statistics import Statistics
from bitville_apm.cli.postgres import setup_sql
from tests.agent.certificate import certified
from tests.agent.postgres.server import Client, Server, owner, serving, until

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"
CONF = """
shared_preload_libraries = 'pg_stat_statements'
logging_collector = on
log_min_duration_statement = 250
log_line_prefix = '%m [%p] %q%a '
"""


def watching(server: Server) -> tuple[Looker, Statistics]:
    dsn = server.dsn(user="bitville")
    look = Looker(Link(dsn), Pace(limits.PG_LOOK_S), Texts(), time.time)
    return look, Statistics(Link(dsn), Pace(limits.PG_STATISTICS_S), look.texts, time.time)


def prepare(server: Server) -> None:
    psql = ["psql", "-h", str(server.root), "-p", str(server.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
    server.run(*psql, input=setup_sql("bitville").encode())
    server.sql("CREATE TABLE item (id int PRIMARY KEY, v text)", "INSERT INTO item VALUES (1, 'a')")


@pytest.mark.full
@pytest.mark.parametrize("version", [10, 12, 14, 15, 16, 17])
def test_a_version(version: int) -> None:
    """PG-01, PG-02, PG-03, PG-05, PG-06, LIST-02: sessions, lock tree, statements, counters and log of this version, by
    the role that `bitville postgres setup` makes on it.
    """
    conf = CONF + ("log_destination = 'csvlog'\n" if version < 15 else "log_destination = 'jsonlog'\n")
    with serving(version, conf) as server:
        prepare(server)
        look, sums = watching(server)
        assert look.link.open().version // 10000 == version
        sums.read()
        assert sums.missing == {}
        holder = Client(server, "BEGIN", "UPDATE item SET v = 'held'", "SELECT 1")
        holder.join()
        waiting = Client(server, "UPDATE item SET v = 'secret' WHERE id = 1", application=f"bitville-{ID}")
        until(lambda: look.look().tally.waiting == 1)
        time.sleep(limits.PG_REQUEST_MS / 1000)
        seen = look.look()
        blocker = f"postgres@postgres {holder.pid}: SELECT ?"
        assert list(seen.tally.tables["blocker"]) == [blocker]
        assert list(seen.tally.links) == [("UPDATE item SET v = ? WHERE id = ?", blocker)]
        found = look.window.flush(time.time())
        assert [o.data["sessions"][0]["pid"] for o in found if o.correlation == ID] == [waiting.pid]
        assert sums.log is not None
        follower = Follower()
        follower.read(sums.log.path, sums.log.prefix)
        holder.connection.execute("COMMIT")
        waiting.join()
        entries = until(lambda: follower.read(sums.log.path, sums.log.prefix) if sums.log else [])
        (slow,) = (told for entry in entries if (told := event(entry)) is not None)
        assert (slow.kind, slow.correlation, slow.data["pid"]) == ("slow", ID, waiting.pid)
        assert slow.data["statement"] == "UPDATE item SET v = ? WHERE id = ?"
        time.sleep(1.1)  # a session's numbers become the server's once a second
        sums._due.clear()
        told = {o.data.get("kind", o.source): o.data for o in sums.read()}
        told_of = told["pg_stat_statements"]["statements"]
        (update,) = (s for s in told_of if s["statement"] == "UPDATE item SET v = ? WHERE id = ?")
        assert update["rows"] == 1
        assert "secret" not in repr(told)
        assert told["counters"]["databases"]["postgres"]["xact_commit"] > 0
        assert sums.missing == {}
        waiting.end()
        holder.end()
        look.close()
        sums.close()


def certify(server: Server) -> None:
    """Let it speak TLS, with a certificate for 127.0.0.1."""
    pem, _ = certified(server.root / "tls")
    (server.root / "tls.crt").write_bytes(pem)
    both = server.root / "tls" / "both.pem"
    both.chmod(0o600)
    if os.geteuid() == 0:
        for path in (both.parent, both):
            shutil.chown(path, owner())
    server.configure(f"{server.conf}\nssl = on\nssl_cert_file = '{both}'\nssl_key_file = '{both}'\n")


@pytest.mark.full
def test_over_tls() -> None:
    """PG-08: a server elsewhere is reached by TLS, its private certificate checked; one that is not its own is not."""
    with serving(15, CONF, certify) as server:
        far = {"host": "127.0.0.1", "sslmode": "verify-full"}
        link = Link(server.dsn(**far, sslrootcert=str(server.root / "tls.crt")))
        assert link.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
        link.close()
        pem, _ = certified(server.root / "other")
        (server.root / "other.crt").write_bytes(pem)
        with pytest.raises(Unreachable) as caught:
            Link(server.dsn(**far, sslrootcert=str(server.root / "other.crt"))).open()
        assert caught.value.why == "its certificate is not trusted"


@pytest.mark.full
def test_a_standby() -> None:
    """PG-08: a read-only standby is watched like any server: its sessions, its statements, and how far it is behind."""
    with serving(18, CONF) as primary:
        prepare(primary)
        with tempfile.TemporaryDirectory(prefix="bvpgs", ignore_cleanup_errors=True) as root:
            Path(root).chmod(0o777)
            standby = Server(Path(root), 18, CONF + f"primary_conninfo = '{primary.dsn()}'\nhot_standby = on\n")
            primary.run("pg_basebackup", "-h", str(primary.root), "-p", str(primary.port), "-U", "postgres", "-D",
                        str(standby.data), "-X", "stream", "-c", "fast")  # fmt: skip
            standby.configure(standby.conf)
            (standby.data / "standby.signal").touch()
            Path(root).chmod(0o755)
            standby.create()
            standby.start()
            try:
                look, sums = watching(standby)
                assert look.link.open().standby
                sums.read()
                client = Client(standby, "SELECT pg_sleep(5)")
                seen = until(lambda: (s := look.look()).tally.active and s)
                assert list(seen.tally.tables["statement"]) == ["SELECT pg_sleep(?)"]
                client.end()
                standby.sql("SELECT count(*) FROM item")
                sums._due.clear()
                told = {o.data.get("kind", o.source): o.data for o in sums.read()}
                assert told["counters"]["standby"]["replay_lag_bytes"] == 0
                assert any(s["statement"] == "SELECT count(*) FROM item"
                           for s in told["pg_stat_statements"]["statements"])  # fmt: skip
                assert sums.missing == {}
                look.close()
                sums.close()
                of_primary = watching(primary)[1]
                of_primary.read()
                primary.sql("SELECT pg_stat_force_next_flush()")
                of_primary._due.clear()
                (counters,) = (o.data for o in of_primary.read() if o.data.get("kind") == "counters")
                assert [row["state"] for row in counters["replication"]] == ["streaming"]
                of_primary.close()
            finally:
                standby.stop()
