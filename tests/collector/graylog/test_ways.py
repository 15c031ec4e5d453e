"""A real collector that sends by UDP, to `bitville gelf-sink`, and by HTTP; and alerts, to either."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.agent.certificate import certified
from tests.collector.graylog.receiver import receiving
from tests.collector.graylog.records import end, posted
from tests.collector.rig import Rig, free_port, running

BITVILLE = str(Path(sys.executable).with_name("bitville"))


def settings(port: int, protocol: str, ca: str = "") -> str:
    return f"[graylog]\nenabled = yes\nport = {port}\nprotocol = {protocol}\nca = {ca}\n"


def problem(rig: Rig, words: str) -> str:
    """What /ready says is wrong, once it has these words."""
    until = time.monotonic() + 60
    while words not in (told := rig.ask("GET", "/ready").json["graylog"]["problem"] or ""):
        assert time.monotonic() < until, told
        time.sleep(0.1)
    return str(told)


@contextlib.contextmanager
def sink(port: int, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """`bitville gelf-sink` that listens, and ends after so many messages."""
    command = [BITVILLE, "gelf-sink", "--listen", f"127.0.0.1:{port}", "--json", "--count", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert b"listening" in process.stderr.readline()
            yield process
        finally:
            process.kill()


def test_udp(tmp_path: Path) -> None:
    """GELF-01: over UDP, where somebody listens, every message arrives, long ones in several datagrams too; where
    nobody does, that is told, and what it is told of is sent again.
    """
    port = free_port()
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=31_000))
    with running(tmp_path, extra=settings(port, "udp")) as rig:
        key = rig.key("shop")
        wanted = posted(rig, key, [end(context={"noise": noise})])
        assert "nobody listens there for UDP" in problem(rig, "UDP")
        wanted += posted(rig, key, [end(context={"noise": noise}), *(end() for _ in range(98))])
        with sink(port, len(wanted)) as process:
            out, err = process.communicate(timeout=90)
        found = [json.loads(line) for line in out.splitlines()]
        assert [message["_bv_id"] for message in found] == wanted
        assert {len(message["full_message"]) > 31_000 for message in found[:2]} == {True}
        assert (process.returncode, err) == (0, b"100 messages, 0 problems\n")
        rig.stop()


class Taking(BaseHTTPRequestHandler):
    """POST /gelf, as Graylog answers it; `trouble` of the server are statuses to answer first."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.trouble.pop(0) if self.server.trouble else 202
        status = status if self.path == "/gelf" else 404
        if status == 202:
            self.server.messages.append(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def graylog_by_http(tls: Any = None) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    server.messages, server.trouble, server.daemon_threads = [], [], True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_http(tmp_path: Path, protocol: str) -> None:
    """GELF-01, GELF-03: over HTTP every message is answered for, in order, and none of those is sent again; what is
    answered with an error is.
    """
    pem, context = certified(tmp_path / "tls")
    (tmp_path / "ca.pem").write_bytes(pem)
    with graylog_by_http(context if protocol == "https" else None) as server:
        server.trouble += [202] * 10 + [500] + [202] * 20 + [503]
        extra = settings(server.server_port, protocol, str(tmp_path / "ca.pem"))
        with running(tmp_path / "rig", extra=extra) as rig:
            wanted = posted(rig, rig.key("shop"), [end() for _ in range(60)])
            assert "answered 500 to POST /gelf" in problem(rig, "answered 500")
            until = time.monotonic() + 60
            while len(server.messages) < len(wanted):
                assert time.monotonic() < until
                time.sleep(0.1)
            assert [message["_bv_id"] for message in server.messages] == wanted
            rig.stop()


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_alerts_go_there_too(tmp_path: Path, protocol: str) -> None:
    """ADV-05, GELF-06: an alert is a message of level 4, with the project; `bitville alerts test` says whether it got
    there.
    """
    config = tmp_path / "collector.ini"
    config.touch(0o600)
    command = [BITVILLE, "alerts", "test", "--config", str(config)]
    with receiving() as receiver, graylog_by_http() as server:
        port = receiver.port if protocol == "tcp" else server.server_port
        config.write_text(settings(port, protocol))
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "graylog: sent\n"), done.stderr
        if protocol == "tcp":
            receiver.wait(1)
        (message,) = receiver.messages or server.messages
        assert (message["level"], message["_kind"], message["_event"]) == (4, "spike", "open")
        assert (message["_project"], message["_bv_id"]) == ("test", "test/spike/test/open")
        assert "This is a test" in message["_verdict"]
        assert message["_link"].endswith("/spikes")
        assert message["full_message"].startswith("#")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "graylog: not sent: no connection to 127.0.0.1" in done.stdout
    config.write_text(settings(1, protocol) + "spikes = no\n")
    assert "names nobody" in subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


def test_the_sink(tmp_path: Path) -> None:
    """`bitville gelf-sink`: a line a message, exit code 0 for what Graylog takes; 1, and why, for what it would drop,
    for fewer than were asked for, and where it cannot listen.
    """
    good = b'{"version":"1.1","host":"web1","short_message":"hello","timestamp":1800014400,"_status_code":200}'
    port = free_port()
    command = [BITVILLE, "gelf-sink", "--listen", f"127.0.0.1:{port}"]

    def heard(data: bytes, *arguments: str) -> tuple[int, str, str]:
        with subprocess.Popen([*command, *arguments], stdout=-1, stderr=-1, text=True) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            assert process.stderr.readline() == f"listening on 127.0.0.1:{port}, TCP and UDP\n"
            with socket.create_connection(("127.0.0.1", port)) as sender:
                sender.sendall(data)
            out, err = process.communicate(timeout=60)
            return process.returncode, out, err

    line = "2027-01-15 12:00:00  web1  hello  200\n"
    assert heard(good + b"\0", "--count", "1") == (0, line, "1 messages, 0 problems\n")
    assert heard(good + b"\0" + good + b"\0", "--count", "2", "--json")[:2] == (0, 2 * f"{good.decode()}\n")
    code, out, err = heard(good.replace(b"200", b"true") + b"\0", "--count", "1")
    assert (code, "_status_code: neither text nor number, Graylog drops it" in err) == (1, True)
    code, out, err = heard(good, "--seconds", "1")
    assert (code, out, "ended within a message" in err) == (1, "", True)
    code, out, err = heard(good + b"\0", "--count", "2", "--seconds", "1")
    assert (code, out) == (1, line)
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "cannot listen" in done.stderr) == (1, True)
    assert subprocess.run([*command, "--count", "0"], capture_output=True, timeout=60).returncode == 2
