"""Starting, stopping, and what is said when that does not work."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from tests.collector.rig import Rig, item, running
from tests.faults.tools import disks
from tests.store.make import end_body, new_id
from tests.tools import require


def refused(rig: Rig) -> str:
    """What a collector that must not start says; it ends by itself, with an error."""
    rig.spawn()
    assert rig.process is not None
    try:
        assert rig.process.wait(30) == 1
    finally:
        rig.end()
    assert "Traceback" not in rig.log
    return rig.log


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """design 5: a collector that cannot listen ends with one line that names the address."""
    with running(tmp_path / "first") as first:
        said = refused(Rig(tmp_path / "second", port=first.port))
        assert f"cannot listen on 127.0.0.1:{first.port}: Address already in use; another process listens there" in said
        assert first.ask("GET", "/health").status == 200


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    """design 5: no directory for the data is one line that names it."""
    (tmp_path / "data").write_text("a file")
    said = refused(Rig(tmp_path))
    assert str(tmp_path / "data") in said
    assert "must be" in said


def test_a_broken_main_file(tmp_path: Path) -> None:
    """design 6: a main.db that is none is set aside, byte by byte as it was, and said; the collector starts."""
    (tmp_path / "data").mkdir(parents=True)
    (tmp_path / "data" / "main.db").write_bytes(b"no database" * 1000)
    with running(tmp_path) as rig:
        (said,) = [line for line in rig.log.splitlines() if "main.db is damaged and now " in line]
        aside = said.partition("main.db is damaged and now ")[2].partition(":")[0]
        assert (rig.data / aside).read_bytes() == b"no database" * 1000
        assert rig.post(rig.local_key, item(end_body(new_id(), time.time()))).json["stored"] == 1


@pytest.mark.parametrize(
    ("extra", "said"),
    [("colour = red\n", "'colour'"), ("[graylogg]\n", "[graylogg]"), ("certificate = /nowhere\n", "private_key")],
)
def test_a_wrong_configuration(tmp_path: Path, extra: str, said: str) -> None:
    """design 8: an unknown section or key, or half a certificate, is one line that names it."""
    assert said in refused(Rig(tmp_path, extra=extra))


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """LIST-01: a certificate that cannot be used is one line that says so."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "missing.pem"):
        said = refused(Rig(tmp_path, extra=f"certificate = {path}\nprivate_key = {path}\n"))
        assert "[collector] certificate or private_key cannot be used: " in said
        assert f"{path}: No such file" in said if path != broken else "PEM files are wanted" in said
        assert "[(" not in said


def test_over_tls(tmp_path: Path) -> None:
    """LIST-01: with a certificate and its key the collector speaks TLS, and the link it shows is https."""
    require("openssl")
    tmp_path.chmod(0o700)
    certificate, private = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", private, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    rig = Rig(tmp_path, extra=f"certificate = {certificate}\nprivate_key = {private}\n")
    rig.spawn()
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"https://127.0.0.1:{rig.port}/health", context=trusted) as answer:
                    assert json.load(answer) == {"status": "healthy"}
                break
            except OSError:
                assert time.monotonic() < until, rig.log
                time.sleep(0.05)
        assert (rig.data / "login.url").read_text().startswith(f"https://127.0.0.1:{rig.port}/login/")
    finally:
        rig.end()


def test_first_steps(tmp_path: Path) -> None:
    """LIST-09: the first start shows a link that logs in once; until then every start shows one, afterwards none."""
    with running(tmp_path) as rig:
        assert (rig.data.stat().st_mode & 0o777) == 0o750
        url_file = rig.data / "login.url"
        assert url_file.stat().st_mode & 0o777 == 0o600
        first, key = url_file.read_text().strip(), rig.local_key
        assert f"open {first} to log in" in rig.log
        assert first.startswith(rig.url + "/login/")
        rig.stop()
        rig.start()
        second = url_file.read_text().strip()
        assert second != first
        assert rig.local_key == key
        log_in(rig, second)
        rig.stop()
        rig.start()
        assert not url_file.exists()
        (rig.data / "local.key").unlink()
        rig.stop()
        rig.start()
        assert rig.local_key != key
        assert rig.post(rig.local_key, item(end_body(new_id(), time.time()))).json["stored"] == 1
        rig.stop()
        for secret in (first, second, key, rig.local_key):
            token = secret.split("_", 2)[2] if secret.startswith("bv_") else secret.rpartition("/")[2]
            assert token.encode() not in (rig.data / "main.db").read_bytes()


def log_in(rig: Rig, url: str) -> None:
    """Use a link through the store, as the pages do."""
    from bitville_apm.collector.auth import digest
    from bitville_apm.store.sqlite import Main

    main = Main.open(rig.data)
    try:
        assert main.take_link(digest(url.rpartition("/")[2]), time.time()) == "admin"
        assert main.take_link(digest(url.rpartition("/")[2]), time.time()) is None
    finally:
        main.close()


def test_garbage_is_collected_beside_the_work(tmp_path: Path) -> None:
    """A collector looks for garbage every few seconds by itself, and says how often it has."""
    with running(tmp_path) as rig:
        until = time.monotonic() + 60
        while rig.ask("GET", "/ready").json["gc_runs"] < 2:
            assert time.monotonic() < until, "garbage is not collected"
            time.sleep(0.5)


def test_sigterm_commits_what_was_taken(tmp_path: Path) -> None:
    """LIST-07: on SIGTERM what was sent is answered and committed, nothing half; the exit is clean and quick."""
    with running(tmp_path) as rig:
        key = rig.key("shop", "ingest,read")
        answered: list[dict[str, Any]] = []

        def send() -> None:
            for _ in range(1000):
                batch = [item(end_body(new_id(), time.time() - 1)) for _ in range(50)]
                try:
                    answer = rig.post(key, *batch)
                except OSError:
                    return
                if answer.status == 200:
                    answered.extend(batch)
                else:
                    assert answer.status == 503

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
        rig.stop()
        assert time.monotonic() - begun < 10
        for thread in threads:
            thread.join()
        assert "Traceback" not in rig.log
        assert not list(rig.data.glob("*-wal"))
        rig.start()
        assert answered
        for line in answered[-60:]:
            assert rig.ask("GET", f"/api/requests/{line['id']}", key=key).status == 200


def test_a_full_disk_under_a_running_collector(tmp_path: Path) -> None:
    """Faults 11, I1: a full disk is answered 507, questions go on, and with space everything resent is there once."""
    with disks.tmpfs(tmp_path / "disk", "6m") as disk, running(tmp_path / "rig", data=disk) as rig:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * limits.MIB)
        key = rig.key("shop", "ingest,read")
        noise = os.urandom(150_000).hex()
        batch: list[dict[str, Any]] = []
        stored, status = 0, 200
        while status == 200:
            stored += len(batch)
            batch = [item(end_body(new_id(), time.time(), context=noise[n : n + 20_000])) for n in range(10)]
            answer = rig.post(key, *batch)
            status = answer.status
        assert (status, answer.headers["retry-after"]) == (507, "10")
        assert "disk is full" in answer.json["message"]
        assert stored >= 10
        ready = rig.ask("GET", "/ready")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert rig.ask("GET", "/health").status == 200
        assert len(rig.ask("GET", "/api/search?limit=5", key=key).json["items"]) == 5
        ballast.unlink()
        assert rig.post(key, *batch).json["stored"] == 10
        assert rig.ask("GET", "/ready").status == 200
        assert rig.log.count("the disk is full") == rig.log.count("records are stored again") == 1
        now = time.time()
        top = rig.ask("GET", f"/api/top?dimension=endpoint&from={now - 3600}&to={now + 60}", key=key).json["items"]
        assert [row["requests"] for row in top] == [stored + 10]


@pytest.mark.skipif(os.geteuid() != 0, reason="not run: making files that the daemon's user cannot write needs root")
def test_files_that_root_made(tmp_path: Path) -> None:
    """Permissions: what a command run by root begins in a directory of the daemon's user belongs to that user."""
    from bitville_apm.store.sqlite import Main

    os.chown(tmp_path, 12345, 23456)
    Main.open(tmp_path).close()
    made = (tmp_path / "main.db").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (12345, 23456, 0o640)
