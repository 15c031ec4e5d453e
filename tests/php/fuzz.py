"""Cases for fault row 25: a program, a request, settings, an agent and a disk, all drawn from one random seed."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.php.peer import Agent, Site, reset

KEYS = [
    "profiling_threshold_ms",
    "profiler",
    "profiler_period_ms",
    "memory_tracking",
    "sql_capture_enabled",
    "sql_capture_method",
    "sql_stack_trace",
    "sql_stack_trace_limit",
    "request_metadata_enabled",
    "listener_timeout_ms",
    "disk_buffer_enabled",
    "disk_buffer_max_age",
    "capture_get",
    "capture_post",
    "capture_headers",
    "client_ip",
    "release",
    "redact_keys",
    "project_name",
]
VALUES = ["0", "1", "-1", "on", "off", "names", "network", "none", "1e9", "NAN", "INF", "", "x" * 300, "{project}",
          "../..", "a,b,,c", '"', "'", "[", "\xff\xfe", "9" * 40, "excimer", "both", "$x",
          "${HOME}"]  # fmt: skip

HELPER = "context({}, {});"
DATA = {
    "binary": "random_bytes_of(300)",
    "recursion": "recursive()",
    "object recursion": "(function () { $o = new stdClass; $o->me = new ArrayObject([$o]); return $o; })()",
    "infinite": "[INF, -INF, NAN, PHP_INT_MAX, PHP_INT_MIN, -0.0]",
    "deep": "deep(600)",
    "wide": "range(1, 20000)",
    "32 MB": "str_repeat('x', 33554432)",
    "closure": "function () { return 1; }",
    "resource": "fopen('php://memory', 'r')",
    "throws": "new class { function __toString() { throw new Exception('s'); } }",
    "json throws": "new class implements JsonSerializable { #[ReturnTypeWillChange]\n"
    " function jsonSerialize() { throw new Exception('j'); } }",
}
LIBRARY = """
ini_set('memory_limit', '%s');
function random_bytes_of($n) { mt_srand(4); $s = ''; while ($n--) $s .= chr(mt_rand(0, 255)); return $s; }
function recursive() { $a = ['x' => 1]; $a['me'] = &$a; return $a; }
function deep($n) { $a = 'end'; while ($n--) $a = [$a]; return $a; }
function context($k, $v) { if (function_exists('bitville_apm_add_context')) bitville_apm_add_context($k, $v); }
function down($n) { return $n === 0 ? 0 : 1 + down($n - 1); }
"""
STEPS = [
    "echo random_bytes_of(500);",
    "echo down(600);",
    "echo down(20000);",
    "usleep(3000);",
    "header('X-One: ' . str_repeat('h', 3000)); header('Set-Cookie: a=b');",
    "http_response_code(503);",
    # No callback that throws: a page then shows another part of what it had (docs/php.md).
    "ob_start(); echo 'buffered'; ob_start(function ($b) { return strrev($b); }); echo 'abc';",
    "set_error_handler(function ($n, $m) { echo '<', $m, '>'; return true; }); echo $nothing;",
    "set_exception_handler(function ($e) { echo '{', $e->getMessage(), '}'; });",
    "register_shutdown_function(function () { echo 'shutdown', error_get_last() === null ? 0 : 1; });",
    "class D { function __destruct() { echo 'destroyed'; } } $d = [new D];",
    "try { new PDO('sqlite:/none/none'); } catch (PDOException $e) { echo 'no database'; }",
    "$c = class_exists('BitvilleApm\\\\Pdo', false) ? 'BitvilleApm\\\\Pdo' : 'PDO'; $d = new $c('sqlite::memory:');"
    " foreach ($d->query(\"select '\" . str_repeat('x', 70000) . \"' as a\") as $r) echo strlen($r['a']);",
    "print_r(array_map('strlen', array_filter($_GET + $_POST, 'is_string')));",
    "echo strlen(file_get_contents('php://input'));",
    "$f = array_map(function ($e) { return $e['type'] ?? 0; }, [error_get_last()]); echo $f[0];",
    "error_reporting(-1); ini_set('display_errors', '1'); echo $undefined;",
    "json_decode('{'); echo json_last_error(); preg_match('/(?:\\D+|<\\d+>)*[!?]/', 'foobar foobar foobar');"
    " echo preg_last_error();",
    "chdir('/'); umask(077); setlocale(LC_ALL, 'C'); date_default_timezone_set('Asia/Tokyo');",
    "ini_set('precision', '3'); ini_set('serialize_precision', '3'); echo 1 / 3;",
    "gc_disable(); ignore_user_abort(true); echo connection_status();",
    "if (function_exists('bitville_apm_begin')) { bitville_apm_begin(random_bytes_of(50)); }",
    "if (function_exists('bitville_apm_end')) { bitville_apm_end(); bitville_apm_end(); }",
    "if (function_exists('bitville_apm_set_endpoint')) { bitville_apm_set_endpoint(random_bytes_of(5000)); }",
    "if (function_exists('bitville_apm_external')) { bitville_apm_external(random_bytes_of(9), NAN); }",
]
ENDS = [
    "", "", "exit;", "exit(7);", "exit('text');", "undefined_function();", "throw new Exception('end');",
    "$a = []; while (true) $a[] = str_repeat('x', 100000);", "trigger_error('user', E_USER_ERROR);",
    "(function (int $x) {})('no');", "register_shutdown_function(function () { exit(3); });",
    "eval('this is no php');", "abstract_call::x();", "ob_end_clean();", "new DateTime('nonsense');",
    "(function () { throw new Error(str_repeat('long', 5000)); })();", "$x = str_repeat('y', PHP_INT_MAX);",
]  # fmt: skip


@attrs.frozen
class Case:
    """One run: what is asked of which program, under which settings."""

    code: str
    settings: str
    request: dict[str, Any]
    php: dict[str, object]

    @classmethod
    def of(cls, chance: random.Random, site: Site, peers: list[Path], full: Path) -> Case:
        steps = [chance.choice(STEPS) for _ in range(chance.randrange(5))]
        for _ in range(chance.randrange(4)):
            what = chance.choice(list(DATA)) if chance.random() < 0.9 else "32 MB"
            steps.append(HELPER.format(chance.choice(["'k'", "random_bytes_of(20)", "INF", "null", "[]"]), DATA[what]))
        # A class or a handler only once.
        steps = list(dict.fromkeys(steps))
        chance.shuffle(steps)
        # Neither near what one of the programs needs: the client's own few hundred KB would decide.
        limit = chance.choice(["128M", "128M", "24M"])
        end = chance.choice(ENDS)
        code = LIBRARY % limit + "\n".join([*steps, "echo 'page';", end])
        return cls(
            code, settings(chance, site, peers, full), request(chance), {"display_errors": chance.choice([0, 1])}
        )


def settings(chance: random.Random, site: Site, peers: list[Path], full: Path) -> str:
    """profiling.ini: mostly one that can be read, with senseless values; at times noise."""
    if chance.random() < 0.1:
        return "profiling_enabled = 1\n" + "".join(chr(chance.randrange(1, 256)) for _ in range(chance.randrange(400)))
    spool = chance.choice([site.spool, site.spool, full, site.root / "none", site.ini, Path("/proc/self")])
    lines = [
        f"profiling_enabled = {chance.choice(['1', '1', '1', 'on', '0'])}",
        f"daemon_socket_path = {chance.choice(peers)}",
        f"disk_buffer_path = {spool}",
        f"profiling_threshold_ms = {chance.choice([0, 0, 1, 500])}",
    ]
    lines += [f"{chance.choice(KEYS)} = {chance.choice(VALUES)}" for _ in range(chance.randrange(6))]
    if chance.random() < 0.2:
        chance.shuffle(lines)
        lines.insert(
            chance.randrange(len(lines)), chance.choice(["[section]", "[profiling]", "[[[", "=", "\0", "a[] = b"])
        )
    return "\n".join(lines)


def request(chance: random.Random) -> dict[str, Any]:
    """What a page is asked with: binary, long, odd or 32 MB of it."""
    noise = bytes(chance.randrange(256) for _ in range(chance.randrange(300)))
    text = noise.decode("latin-1")
    kind = chance.choice(["form", "json", "binary", "upload"])
    body = {
        "form": b"password=x&a[b][c]=%ff%00&" + b"d[]=1&" * 50 + noise,
        "json": b'{"a":' * 600,
        "binary": noise,
        "upload": b'--b\r\nContent-Disposition: form-data; name="f"; filename="'
        + noise.replace(b"\r", b"")
        + b'"\r\n\r\nx\r\n--b--',
    }[kind]
    if chance.random() < 0.02:
        body = b"field=" + b"x" * (32 << 20)
    types = {
        "form": "application/x-www-form-urlencoded",
        "json": "application/json",
        "upload": "multipart/form-data; boundary=b",
    }
    return {
        "uri": "/"
        + text[:200].replace("\0", "")
        + "?"
        + chance.choice(["", "a=1", "token=secret&x[y]=%e4", "&" * 200]),
        "method": chance.choice(["POST", "POST", "GET", "PUT", "gEt", "X" * 300, ""]),
        "body": body,
        "headers": {
            "Content-Type": types.get(kind, "application/octet-stream"),
            "User-Agent": text,
            "Authorization": "Basic \xff",
            "X-Request-Start": chance.choice(["t=1", "x" * 50, "1795231260.5", "t=99999999999999999999"]),
            "Traceparent": text[:60],
        },
    }


@contextlib.contextmanager
def peers(root: Path) -> Iterator[list[Path]]:
    """Sockets that are not there, no sockets, and agents of every temper."""
    with contextlib.ExitStack() as stack:

        def tear(connection: socket.socket, record: dict[str, Any]) -> None:
            reset(connection)

        good = Agent(root / "good")
        tempers = [
            good,
            Agent(root / "minus", answer=b"-"),
            Agent(root / "noise", answer=b"\0\xff" * 5000),
            Agent(root / "silent", answer=None),
            Agent(root / "tears", on_line=tear),
            Agent(root / "hangs", accepting=False),
        ]
        for agent in tempers:
            stack.enter_context(agent)
        dead = root / "dead"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(dead))
        file = root / "file"
        file.write_text("no socket")
        yield [
            *(agent.path for agent in tempers),
            good.path,
            dead,
            file,
            root,
            root / "absent",
            Path("/proc/self/fd/0"),
        ]
