"""Two real applications, WordPress on MariaDB and MediaWiki on PostgreSQL, as their users install them.

Each is served by nginx from two pools that share its files and its database: one with the client, one without. So any
page can be asked for on both sides, and the side without twice, to learn what the application itself varies.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any, ClassVar

import attrs
from typing_extensions import Self

from tests.php.peer import PATIENCE_S, Fpm, Site, base_options
from tests.tools import require

HOST = "example.org"

NGINX = """
daemon off; pid %(root)s/nginx.pid; error_log %(root)s/nginx.log; worker_processes 1; %(user)s
events { worker_connections 64; }
http {
    access_log off; client_body_temp_path %(root)s/body; fastcgi_temp_path %(root)s/fastcgi;
    proxy_temp_path %(root)s/proxy; scgi_temp_path %(root)s/scgi; uwsgi_temp_path %(root)s/uwsgi;
    fastcgi_buffers 64 64k; fastcgi_buffer_size 64k; fastcgi_busy_buffers_size 128k;
    %(servers)s
}
"""
SERVER = """
    server {
        listen unix:%(socket)s; root %(home)s; index index.php;
        location / { try_files $uri $uri/ /index.php?$args; }
        location ~ ^.+\\.php(/|$) {
            fastcgi_split_path_info ^(.+?\\.php)(/.*)$; fastcgi_pass unix:%(fpm)s;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name; fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_param REQUEST_URI $request_uri; fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param SERVER_PROTOCOL HTTP/1.1; fastcgi_param SERVER_NAME $host; fastcgi_param SERVER_PORT 80;
            fastcgi_param SERVER_SOFTWARE nginx; fastcgi_param REMOTE_ADDR 203.0.113.77; %(more)s
        }
    }
"""


@attrs.frozen
class Page:
    """An answer as a browser gets it: headers in their order, without the time of day."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


class Application:
    """An installed application behind nginx, with the client (`measured`) and without (`bare`)."""

    SIDES = ("bare", "measured")

    varies: ClassVar[Mapping[bytes, bytes]] = {}
    """What differs from one answer to the next without us: pattern => what stands for it."""

    def __init__(self, root: Path, home: Path, site: Site, extensions: tuple[str, ...], **parameters: str) -> None:
        require("nginx")
        self.root, self.home, self.site = root, home, site
        self.extensions = extensions
        self._stack = contextlib.ExitStack()
        servers = []
        for side in self.SIDES:
            (root / side).mkdir()
            fpm = Fpm(root / side, client=side == "measured", extensions=extensions, children=1)
            self._stack.callback(fpm.stop)
            given = {"BITVILLE_APM_INI": str(site.ini), **parameters}
            more = " ".join(f"fastcgi_param {name} {value};" for name, value in given.items())
            servers.append(SERVER % {"socket": root / side / "web", "home": home, "fpm": fpm.socket, "more": more})
        configuration = root / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(NGINX % {"root": root, "user": user, "servers": "".join(servers)})
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "nginx"
        process = subprocess.Popen([nginx, "-p", root, "-c", configuration], stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        deadline = time.monotonic() + PATIENCE_S
        while not all((root / side / "web").exists() for side in self.SIDES):
            assert process.poll() is None, (root / "nginx.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)

    def close(self) -> None:
        self._stack.close()

    def get(self, side: str, uri: str, body: bytes | None = None, cookies: Mapping[str, str] | None = None) -> Page:
        """One page of one side; with a body it is a form that is sent."""
        lines = [f"{'GET' if body is None else 'POST'} {uri} HTTP/1.0", f"Host: {HOST}", "User-Agent: Mozilla/5.0"]
        if cookies:
            lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()))
        if body is not None:
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.root / side / "web"))
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
            data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *others = head.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in others)
        headers = tuple((name, value) for name, value in pairs if name != "Date")
        return Page(int(first.split()[1]), headers, rest)

    def fresh(self) -> Self:
        """With the settings that a test begins with, and nothing left of the one before."""
        self.site.configure(profiling_threshold_ms=0)
        for path in self.site.spool.iterdir():
            path.unlink()
        return self

    def told(
        self, uri: str, body: bytes | None = None, cookies: Mapping[str, str] | None = None
    ) -> tuple[Page, list[dict[str, Any]]]:
        """A page of the side with the client, and what that says of it: the end record last."""
        with self.site.agent() as agent:
            page = self.get("measured", uri, body, cookies)
            agent.one("end")
            return page, list(agent.lines)

    def settled(self, page: Page) -> tuple[object, ...]:
        """A page without what the application varies by itself."""
        said = [f"{name}: {value}".encode("latin-1") for name, value in page.headers] + [page.body]
        for pattern, stands in self.varies.items():
            said = [re.sub(pattern, stands, text) for text in said]
        return (page.status, *said)


def crawl(
    start: list[str], get: Callable[[str], Page], wanted: Callable[[str], bool], most: int
) -> Iterator[tuple[str, Page]]:
    """Pages from `start` on along their links, breadth first, each once, at most so many."""
    found, at = list(start), 0
    while at < len(found) and at < most:
        uri = found[at]
        page = get(uri)
        yield uri, page
        at += 1
        links = re.findall(r"(?:href|src|action)=[\"']([^\"'#]+)", page.body.decode("utf-8", "replace"))
        for link in [*links, page.header("location")]:
            full = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://{HOST}{uri}", unescape(link)))
            path = full.path + ("?" + full.query if full.query else "")
            if full.hostname == HOST and path not in found and wanted(path):
                found.append(path)


def installed(script: list[str | Path], extensions: tuple[str, ...]) -> str:
    """What an application's own installer prints."""
    done = subprocess.run(["php", *base_options(extensions), *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout
