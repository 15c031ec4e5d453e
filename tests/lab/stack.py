"""The whole product and a shop on this machine: nginx, php-fpm, PostgreSQL, agent, collector. For the live lab.

Everything lies in one directory and ends with this process. As root on Debian, for PostgreSQL runs as its own user.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bitville_apm.demo.carrier import Carrier
from bitville_apm.demo.children import Children
from bitville_apm.demo.interpreter import Php
from bitville_apm.demo.place import Place
from bitville_apm.demo.run import free_port, product_environment
from bitville_apm.demo.shop import SHOP, Shop
from bitville_apm.demo.visits import Visit

POSTGRES = Path("/usr/lib/postgresql/15/bin")
WORKERS = 24
READY_S = 60.0
ROLES = ("shop", "backup", "reports", "bitville")

NGINX = """
user root; worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {logs}/nginx-errors.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {home}/nginx; fastcgi_temp_path {home}/nginx; proxy_temp_path {home}/nginx;
  uwsgi_temp_path {home}/nginx; scgi_temp_path {home}/nginx;
  set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
  server {{
    listen 127.0.0.1:{port}; root {home}/current;
    location / {{
      fastcgi_pass unix:{socket}; fastcgi_read_timeout 120; include /etc/nginx/fastcgi_params;
      fastcgi_param DOCUMENT_ROOT $realpath_root; fastcgi_param SCRIPT_NAME /index.php;
      fastcgi_param SCRIPT_FILENAME $realpath_root/index.php;
    }}
  }}
}}
"""

MORE_REVIEWS = """
INSERT INTO review (id, product_id, stars, written_at, words)
SELECT last.id + n, 1 + n % 480, 3, 0, '' FROM (SELECT max(id) AS id FROM review) last, generate_series(1, 120000) n
WHERE NOT EXISTS (SELECT FROM review WHERE author_id IS NULL)
"""
"""Three times as many: reading them without the index, or making the menu anew, is a spike on an idle machine."""

POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "100",
    "fsync": "on",
    "shared_buffers": "128MB",
    "jit": "off",
    "log_lock_waits": "on",
    "compute_query_id": "on",
    # A session whose client was killed ends at once, and with it what it holds.
    "client_connection_check_interval": "500ms",
}


class NoStack(Exception):
    """It cannot run here; the message says what is missing."""


@attrs.define(eq=False)
class Stack:
    """What runs. `ask` visits the shop through nginx."""

    place: Place
    children: Children
    shop: Shop
    carrier: Carrier
    web: int
    port: int
    postgres_port: int
    key: str
    open_visits: int = attrs.field(default=0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def data(self) -> Path:
        """The collector's data."""
        return self.place.state / "collector"

    def ask(self, visit: Visit) -> tuple[int, bytes]:
        """Visit a page: its status and body. Raises `OSError`."""
        self._open(1)
        try:
            return self._ask(visit)
        finally:
            self._open(-1)

    def _open(self, change: int) -> None:
        with self._lock:
            self.open_visits += change

    def _ask(self, visit: Visit) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        headers = {**visit.headers(), "X-Forwarded-For": visit.client}
        body = None
        if visit.method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(visit.form)
        try:
            connection.request(visit.method, visit.uri, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"no answer: {error!r}") from error
        finally:
            connection.close()

    def api(self, question: str, **parameters: Any) -> Any:
        """Ask the collector; raises `urllib.error.HTTPError`."""
        url = f"http://127.0.0.1:{self.web}/api/{question}?{urllib.parse.urlencode(parameters)}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def psql(self, role: str, sql: str) -> list[str]:
        """The command that runs a statement as a role, in a session of its own."""
        return [
            *(str(POSTGRES / "psql"), "-X", "-q", "-h", str(self.place.home / "pg"), "-p", str(self.postgres_port)),
            *("-U", role, "-d", "shop", "-v", "ON_ERROR_STOP=1", "-c", sql),
        ]

    def sql(self, sql: str, role: str = "shop") -> None:
        """Run a statement to its end."""
        subprocess.run(self.psql(role, sql), check=True, capture_output=True, timeout=120)


@contextlib.contextmanager
def running(state: Path, agent_settings: str = "", workers: int = WORKERS) -> Iterator[Stack]:
    """Start it all, yield it, stop it all. Raises `NoStack`."""
    if os.geteuid() != 0:
        raise NoStack("the lab starts PostgreSQL as another user: run it as root")
    missing = [tool for tool in ("nginx", "runuser") if shutil.which(tool) is None]
    if missing or not (POSTGRES / "initdb").exists():
        raise NoStack(f"missing: {', '.join([*missing, 'postgresql-15'])} (tests/system-packages.sh installs them)")
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack, Place.taken(state, {}) as place:
        state.chmod(0o711)
        children = Children(place.state / "logs", place.state / "processes")
        stack.callback(children.stop)
        yield _started(place, children, stack, agent_settings, workers)


def _started(place: Place, children: Children, stack: contextlib.ExitStack, agent_settings: str, workers: int) -> Stack:
    children.clear_leftovers()
    place.clear_sockets()
    port = _postgres(place, children)
    web, health = free_port(18443), free_port(19191)
    place.write_settings(web, health, workers)
    with place.agent_ini.open("a") as ini:
        ini.write(f"[postgres main]\ndsn = host={place.home}/pg port={port} dbname=shop user=bitville\n")
        ini.write(agent_settings)
    for name, service, ini_file, where, path in (
        ("collector", "bitville-collector", place.collector_ini, web, "/ready"),
        ("agent", "bitville-agent", place.agent_ini, health, "/health"),
    ):
        command = [sys.executable, str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", service]
        child = children.start(name, [*command, "--config", str(ini_file)], product_environment(os.environ))
        _wait(child.check, lambda where=where, path=path: _answers(where, path))  # type: ignore[misc]
    carrier = Carrier()
    carrier.start()
    stack.callback(carrier.stop)
    database = f"pgsql:host={place.home}/pg;port={port};dbname=shop;user=shop"
    shop = Shop(Php.find(), place.home, place.profiling_ini, 0, carrier.url, database, workers)
    if not shop.php.is_fpm:
        raise NoStack("there is no php-fpm")
    shop.prepare()
    fill = (
        "foreach (glob(getenv('SRC') . '/*.php') as $f) require_once $f; Shop\\Database::fill(Shop\\Database::open());"
    )
    filling = {**shop.environment(), "SRC": str(SHOP / "src")}
    job = shop.job()
    if job is None:
        raise NoStack("there is no PHP for the command line")
    if not (shop.data / "filled").exists():
        plain = [*job[:3], "-d", "auto_prepend_file=", "-r", fill]
        subprocess.run(plain, env=filling, check=True, timeout=120)
        (shop.data / "filled").touch()
    children.start("shop", shop.command(), shop.environment())
    http_port = free_port(18480)
    (place.state / "nginx").mkdir(exist_ok=True)
    conf = place.state / "nginx.conf"
    logs = place.state / "logs"
    conf.write_text(NGINX.format(home=place.home, logs=logs, port=http_port, socket=shop.socket))
    nginx = children.start("nginx", [str(shutil.which("nginx")), "-c", str(conf)], os.environ)
    made = Stack(place, children, shop, carrier, web, http_port, port, _read_key(place))
    for statement in (MORE_REVIEWS, "ALTER TABLE review SET (parallel_workers = 2)", "ANALYZE"):
        made.sql(statement)
    _wait(nginx.check, lambda: _serves(made))
    return made


def _postgres(place: Place, children: Children) -> int:
    """A cluster of its own; its data outlives a run in the same directory."""
    directory, sockets = place.state / "pgdata", place.state / "pg"
    for path in (directory, sockets):
        path.mkdir(mode=0o700 if path == directory else 0o755, exist_ok=True)
        shutil.chown(path, "postgres", "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    if not (directory / "PG_VERSION").exists():
        command = [str(POSTGRES / "initdb"), "-D", str(directory), "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*as_postgres, *command], check=True, capture_output=True)
    port = free_port(15432)
    settings = [word for name, value in POSTGRES_SETTINGS.items() for word in ("-c", f"{name}={value}")]
    server = [
        str(POSTGRES / "postgres"),
        "-D",
        str(directory),
        "-k",
        str(place.home / "pg"),
        "-p",
        str(port),
        *settings,
    ]
    # Not through runuser, which would stand between: the server itself is told to stop.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    child = children.start("postgres", [*user, *server], {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
    psql = [str(POSTGRES / "psql"), "-X", "-q", "-h", str(place.home / "pg"), "-p", str(port), "-U", "postgres"]

    def ask(sql: str, database: str = "postgres") -> bool:
        return subprocess.run([*psql, "-d", database, "-c", sql], capture_output=True, check=False).returncode == 0

    _wait(child.check, lambda: ask("SELECT 1"))
    for role in ROLES:
        ask(f"CREATE ROLE {role} LOGIN")
    ask("GRANT pg_monitor TO bitville")
    ask("CREATE DATABASE shop OWNER shop")
    ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "shop")
    ask("GRANT shop TO backup, reports", "shop")
    return port


def _read_key(place: Place) -> str:
    command = [sys.executable, "-m", "bitville_apm.cli", "key", "new", "--project", "default", "--scope", "read"]
    command += ["--config", str(place.collector_ini)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=product_environment(os.environ))
    return made.stdout.splitlines()[-1]


def _wait(check: Callable[[], None], answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not answers():
        check()
        if time.monotonic() > deadline:
            raise NoStack(f"no answer within {READY_S:g} s")
        time.sleep(0.1)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _serves(stack: Stack) -> bool:
    try:
        return stack.ask(Visit("GET", "/", 0))[0] == 200
    except OSError:
        return False


def described(environment: Mapping[str, str] = os.environ) -> str:
    """What it all ran on, in one line."""

    def version(command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(environment))
        found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        return found[0] if found else "?"

    php, nginx = version(["php", "-n", "-v"]), version(["nginx", "-v"])
    postgres = version([str(POSTGRES / "postgres"), "--version"])
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, PHP {php} with "
        f"{WORKERS} workers, nginx {nginx}, PostgreSQL {postgres}"
    )
