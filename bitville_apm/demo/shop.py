"""Running the PHP shop: php-fpm where it is installed, else PHP's built-in server.

Everything runs as the user who started the demo, root included, so that sockets and spool need no second user's
permissions.
"""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import attrs

from bitville_apm import fastcgi
from bitville_apm.demo.interpreter import Php, quoted
from bitville_apm.demo.releases import SHOP, Releases
from bitville_apm.demo.visits import Visit

CLIENT = Path(__file__).parent.parent / "php"
WORKERS = 8
ANSWER_S = 60.0
END_TOGETHER = 'trap "trap - TERM; kill 0" TERM; "$@" & wait $!'
"""A shell that passes SIGTERM on to all of PHP's own server: PHP itself would leave its workers behind."""


@attrs.frozen
class Shop:
    """The shop as files below `home`, ready to be started; `ask` visits it once it runs.

    `home` must be short: its socket's path has to fit into 108 bytes. `carrier` is the address of the host that it
    asks for deliveries, `database` that of a PostgreSQL server for PDO; without one it makes a SQLite file.
    """

    php: Php
    home: Path
    profiling_ini: Path
    port: int = attrs.field(default=0)
    carrier: str = attrs.field(default="")
    database: str = attrs.field(default="")
    workers: int = attrs.field(default=WORKERS)
    releases: Releases | None = attrs.field(
        default=attrs.Factory(lambda self: Releases(self.home) if self.php.is_fpm else None, takes_self=True)
    )

    @property
    def socket(self) -> Path:
        """Where php-fpm listens."""
        return self.home / "php.sock"

    @property
    def data(self) -> Path:
        """Its database, its cache and its troubles."""
        return self.home / "shop"

    @property
    def root(self) -> Path:
        """The document root: under php-fpm the link to the release that serves."""
        return SHOP if self.releases is None else self.releases.current

    def prepare(self) -> None:
        """Write the configuration of PHP, the first release and the directory of the database."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        if self.releases is not None:
            self.releases.start()
        ini = self.php.ini(
            ("pdo_pgsql",) if self.database else (),
            auto_prepend_file=str(CLIENT / "prepend.php"),
            display_errors="0",
            log_errors="1",
            date__timezone="UTC",
            memory_limit="128M",
        )
        (self.home / "php.ini").write_text(ini)
        (self.home / "php-fpm.conf").write_text(self._pool())

    def _pool(self) -> str:
        """A pool as a shop of this size would have it, of the user who starts it."""
        environment = "".join(f"env[{name}] = {quoted(value)}\n" for name, value in self._environment().items())
        user = "user = root\n" if os.geteuid() == 0 else ""
        return (
            f"[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n[shop]\n{user}"
            f"listen = {self.socket}\nlisten.mode = 0600\npm = static\npm.max_children = {self.workers}\n"
            f"{self._status()}request_terminate_timeout = 60\ncatch_workers_output = yes\n{environment}"
        )

    def _status(self) -> str:
        if not self.has_status:
            return ""
        return f"pm.status_path = /status\npm.status_listen = {self.home}/fpm.sock\n"

    @property
    def has_status(self) -> bool:
        """Whether its pool has a status page of its own socket: php-fpm from 8.0 on."""
        return self.php.is_fpm and int(self.php.version.partition(".")[0] or 0) >= 8

    def _environment(self) -> dict[str, str]:
        optional = {"SHOP_CARRIER": self.carrier, "SHOP_DATABASE": self.database}
        return {
            "SHOP_DATA": str(self.data),
            "BITVILLE_APM_INI": str(self.profiling_ini),
            **{name: value for name, value in optional.items() if value},
        }

    def command(self) -> list[str]:
        """What to run."""
        ini = ["-c", str(self.home / "php.ini")]
        if self.php.is_fpm:
            as_root = ["--allow-to-run-as-root"] if os.geteuid() == 0 else []
            return [self.php.binary, *ini, "--nodaemonize", "-y", str(self.home / "php-fpm.conf"), *as_root]
        # No router script: PHP would leave auto_prepend_file out for it. Addresses that name no file reach index.php.
        server = [self.php.binary, *ini, "-q", "-S", f"127.0.0.1:{self.port}", "-t", str(SHOP)]
        return ["sh", "-c", END_TOGETHER, "sh", *server]

    def job(self) -> list[str] | None:
        """The shop's night work, for a command line of the same version; None where there is none."""
        found = shutil.which("php" + ".".join(self.php.version.split(".")[:2]))
        return None if found is None else [found, "-c", str(self.home / "php.ini"), str(SHOP / "cron.php"), "reindex"]

    def environment(self) -> dict[str, str]:
        """What to run it with. The empty scan directory keeps the machine's own modules out."""
        names = ("PATH", "LANG", "TMPDIR")
        return {
            **{name: os.environ[name] for name in names if name in os.environ},
            **self._environment(),
            "PHP_INI_SCAN_DIR": "",
            "PHP_CLI_SERVER_WORKERS": str(self.workers),
        }

    def ask(self, visit: Visit) -> tuple[int, bytes]:
        """Visit a page: its status and body. Raises `OSError`, also for an answer that cannot be read."""
        try:
            return self._over_fastcgi(visit) if self.php.is_fpm else self._over_http(visit)
        except (fastcgi.FastCgiError, http.client.HTTPException, ValueError) as error:
            raise OSError(f"the shop answered nonsense: {error!r}") from error

    def _over_fastcgi(self, visit: Visit) -> tuple[int, bytes]:
        path, _, query = visit.uri.partition("?")
        # Resolved, as nginx's $realpath_root: OPcache would go on with the file that the link led to before.
        root = self.root.resolve()
        params = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": "bitville-demo",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "shop.example",
            "SERVER_ADDR": "127.0.0.1",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": visit.client,
            "DOCUMENT_ROOT": str(root),
            "SCRIPT_NAME": "/index.php",
            "SCRIPT_FILENAME": str(root / "index.php"),
            "REQUEST_METHOD": visit.method,
            "REQUEST_URI": visit.uri,
            "DOCUMENT_URI": path,
            "QUERY_STRING": query,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in visit.headers().items()},
        }
        body = _form(visit.form)
        if visit.method == "POST":
            params |= {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body))}
        answer = fastcgi.ask(str(self.socket), params, body, ANSWER_S)
        return answer.status, answer.body

    def _over_http(self, visit: Visit) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        headers = {**visit.headers(), "X-Forwarded-For": visit.client}
        body = None
        if visit.method == "POST":
            headers["Content-Type"], body = "application/x-www-form-urlencoded", _form(visit.form)
        try:
            connection.request(visit.method, visit.uri, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _form(values: Mapping[str, str]) -> bytes:
    return urllib.parse.urlencode(values).encode()
