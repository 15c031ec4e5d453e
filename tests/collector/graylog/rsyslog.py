"""A real rsyslog as the receiver: what it parsed of each message is a line of JSON in a file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.collector.rig import free_port
from tests.tools import require

CONFIG = """\
global(workDirectory="{directory}" maxMessageSize="256k")
{tls}module(load="imtcp" AddtlFrameDelimiter="0" DisableLFDelimiter="on"{mode})
module(load="mmjsonparse")
template(name="parsed" type="list") {{
    property(name="$!all-json")
    constant(value="\\n")
}}
ruleset(name="gelf") {{
    action(type="mmjsonparse" cookie="" useRawMsg="on")
    action(type="omfile" file="{file}" template="parsed")
}}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="gelf")
"""
TLS = """\
global(
    defaultNetstreamDriver="ossl"
    defaultNetstreamDriverCAFile="{certificate}"
    defaultNetstreamDriverCertFile="{certificate}"
    defaultNetstreamDriverKeyFile="{key}"
)
"""
MODE = ' StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon"'


@attrs.define(eq=False)
class Rsyslog:
    """One in a directory of its own. `certificate` and `key`, PEM, make it speak TLS."""

    directory: Path
    certificate: Path | None = None
    key: Path | None = None
    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        """What it parsed."""
        return self.directory / "gelf.jsonl"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        require("rsyslogd")
        self.directory.mkdir(exist_ok=True)
        tls = TLS.format(certificate=self.certificate, key=self.key) if self.certificate else ""
        mode = MODE if self.certificate else ""
        config = self.directory / "rsyslog.conf"
        config.write_text(CONFIG.format(directory=self.directory, file=self.file, port=self.port, tls=tls, mode=mode))
        command = ["rsyslogd", "-n", "-f", str(config), "-i", str(self.directory / "pid")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while f":{self.port:04X} " not in Path("/proc/net/tcp").read_text():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self, *, kill: bool = False) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(20)

    def messages(self) -> list[dict[str, Any]]:
        """What it parsed so far, whole lines only."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_bytes().split(b"\n")[:-1]]

    def wait(self, n: int, seconds: float = 90) -> list[dict[str, Any]]:
        """What it parsed, once so many different messages are there."""
        until = time.monotonic() + seconds
        while True:
            found = self.messages()
            if len({message.get("_bv_id") for message in found}) >= n:
                return found
            assert time.monotonic() < until, (len(found), n, (self.directory / "log").read_text())
            time.sleep(0.1)


@contextlib.contextmanager
def rsyslog(directory: Path, **more: Any) -> Iterator[Rsyslog]:
    """One that listens, and is gone afterwards."""
    made = Rsyslog(directory, **more)
    try:
        made.start()
        yield made
    finally:
        made.end()
