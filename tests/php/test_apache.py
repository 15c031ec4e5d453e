"""Apache with mod_php: no fastcgi_finish_request(), processes that fork, settings of a directory (docs/php.md)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.php.peer import LISTENER, PATIENCE_S, STUB, Site
from tests.tools import lacking, require

MODULES = Path("/usr/lib/apache2/modules")
CONFIGURATION = """
ServerRoot %(root)s
ServerName example.org
PidFile %(root)s/pid
ErrorLog %(root)s/log
%(modules)s
%(user)s
StartServers 1
MinSpareServers 1
MaxSpareServers 1
Listen 127.0.0.1:%(port)d
DocumentRoot %(site)s
<Directory %(site)s>
    Require all granted
    SetHandler application/x-httpd-php
    SetEnv BITVILLE_APM_INI %(site)s/profiling.ini
</Directory>
<Location /measured>
    php_admin_value auto_prepend_file %(stub)s
</Location>
Alias /measured %(site)s
"""


class Apache:
    """An Apache of its own; pages below /measured have the client."""

    def __init__(self, root: Path, site: Site) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        names = ["mpm_prefork", "authz_core", "authz_host", "alias", "env", "mime", "dir"]
        modules = [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names]
        (php,) = sorted(MODULES.glob("libphp*.so"))[-1:]
        modules.append(f"LoadModule php_module {php}")
        text = CONFIGURATION % {
            "root": root,
            "modules": "\n".join(modules),
            # The client's files and the site's may be root's alone.
            "user": "",
            "port": self.port,
            "site": site.root,
            "stub": STUB,
        }
        (root / "apache.conf").write_text(text)
        (root / "mime.types").touch()
        text = text.replace("ErrorLog", f"TypesConfig {root}/mime.types\nErrorLog", 1)
        (root / "apache.conf").write_text(text)
        binary = shutil.which("apache2", path=os.environ.get("PATH", "") + ":/usr/sbin") or "apache2"
        self.process = subprocess.Popen(
            [binary, "-X", "-f", str(root / "apache.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, (root / "log").read_text() if (root / "log").exists() else "no log"
                assert time.monotonic() < deadline, "Apache does not listen"
                time.sleep(0.05)

    def get(self, uri: str) -> tuple[bytes, bytes]:
        """Head, without its date, and body."""
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection:
            connection.sendall(f"GET {uri} HTTP/1.0\r\nHost: example.org\r\n\r\n".encode())
            data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = data.partition(b"\r\n\r\n")
        return b"\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Date:")), body


@pytest.fixture
def apache(site: Site) -> Iterator[Apache]:
    require("apache2")
    if not list(MODULES.glob("libphp*.so")):
        lacking("mod_php is missing on this machine")
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        if os.geteuid() == 0:
            for path in (site.root, site.root / "run", site.spool):
                path.chmod(0o777)
            site.ini.chmod(0o644)
        server = Apache(Path(root), site)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(PATIENCE_S)


PAGE = (
    "class D { function __destruct() { echo 'end'; } } $d = [new D]; http_response_code(404); echo 'page ', $_GET['a'];"
)


def test_pages_of_apache(site: Site, apache: Apache) -> None:
    """PHP-13, PHP-02: with mod_php pages are the same, and each is told of with its status and its own id."""
    site.configure(profiling_threshold_ms=0)
    site.script(PAGE)
    plain = apache.get("/app.php?a=1")
    with site.agent() as agent:
        if os.geteuid() == 0:
            site.socket.chmod(0o777)
        assert [apache.get("/measured/app.php?a=1") for _ in range(3)] == [plain] * 3
        ends = agent.all("end", 3)
    assert plain[1] == b"page 1end"
    assert len({end["id"] for end in ends}) == 3
    assert {(end["server"]["sapi"], end["response"]["status"]) for end in ends} == {("apache2handler", 404)}


def test_apache_without_an_agent(site: Site, apache: Apache) -> None:
    """COMM-03: without an agent the records are in the spool; by `require` as by auto_prepend_file (COMM-06)."""
    site.script(PAGE)
    site.script(f"require {str(LISTENER)!r};" + PAGE, "by_hand.php")
    assert apache.get("/measured/app.php?a=2")[1] == apache.get("/by_hand.php?a=2")[1] == b"page 2end"
    assert [line["t"] for line in site.spooled_short()] == ["end", "end"]
