"""The application never notices: not its output, not its exit code, not its errors, whatever PHP lacks (PHP-13)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.php.peer import LISTENER, PHP, STUB, Fpm, Site

PROGRAMS = {
    "text": "echo 'a', PHP_EOL; return 5;",
    "exit code": "echo 'x'; exit(7);",
    "exit text": "exit('bye');",
    "exception": "throw new RuntimeException('boom');",
    "fatal": "echo 'before'; undefined_function();",
    "out of memory": "ini_set('memory_limit', '16M'); $a = []; while (true) $a[] = str_repeat('x', 1000);",
    "parse error": "echo 'never'; $x = ;",
    "warning": "echo $undefined; trigger_error('mine', E_USER_WARNING);",
    "last error": "@file_get_contents('/none');register_shutdown_function(function () { print_r(error_get_last()); });",
    "no last error": "register_shutdown_function(function () { var_dump(error_get_last()); });",
    "error handler": "set_error_handler(function ($n, $m) { throw new ErrorException($m); });"
    "register_shutdown_function(function () { try { echo $u; } catch (ErrorException $e) { echo 'caught'; } });",
    "restore handler": "var_dump(set_error_handler(null), set_exception_handler(null));",
    "buffers": "ob_start(function ($b) { return strtoupper($b); }); echo 'shout';",
    "throwing buffer": "ob_start(function ($b) { throw new LogicException('from the buffer'); }); echo 'x';",
    "shutdown order": "register_shutdown_function(function () { echo 1;"
    " register_shutdown_function(function () { echo 2; register_shutdown_function(function () { echo 3; }); }); });",
    "exit in shutdown": "register_shutdown_function(function () { echo 'last'; exit(4); });",
    "destructor": "class D { function __destruct() { echo 'gone'; } } $d = new D; echo 'here';",
    "late destructors": "class D { public $n; public $o; function __construct($n) { $this->n = $n; }"
    " function __destruct() { echo $this->n; if ($this->n === 'maker') { $GLOBALS['late'] = [new D('made')]; } } }"
    " function f() { static $s; $s = [new D('static'), new D('maker')]; } f();"
    " $a = new D('global'); $c = new D('cycle'); $c->o = $c; unset($c); $list = [new D('listed')];"
    " register_shutdown_function(function () { static $x; $x = new D('from shutdown'); });",
    "exit before destructors": "class D { function __destruct() { echo 'gone'; } } $d = [new D];"
    " register_shutdown_function(function () { echo 'last'; exit(4); });",
    "exception before destructors": "class D { function __destruct() { echo 'gone'; } } $d = [new D];"
    " throw new Exception('thrown');",
    "globals": "print_r(array_diff(array_keys(get_defined_vars()), ['_GET', '_POST', '_COOKIE', '_FILES', '_SERVER',"
    " 'argv', 'argc', '_ENV', '_REQUEST']));",
    "json state": "json_decode('{'); echo json_last_error();"
    " if (function_exists('bitville_apm_set_endpoint')) bitville_apm_set_endpoint('x'); echo json_last_error();",
    "random state": "mt_srand(5); echo mt_rand(), rand();",
    "constants": "print_r(array_filter(array_keys(get_defined_constants(true)['user'] ?? []), function ($c) {"
    " return strncmp($c, 'BITVILLE_APM_', 13) !== 0; }));",
    "functions": "print_r(array_filter(get_defined_functions()['user'], function ($f) {"
    " return strncmp($f, 'bitville_apm_', 13) !== 0; }));",
    "classes": "class_exists('Nope'); print_r(spl_autoload_functions());",
    "settings": "print_r([ini_get('memory_limit'), ignore_user_abort(), error_reporting(), setlocale(LC_ALL, 0)]);",
    "late settings": "register_shutdown_function(function () { print_r([ini_get('memory_limit'), getcwd()]); });",
    "headers": "header('X-A: 1'); print_r(headers_list());",
    "own functions": "function bitville_apm_begun() {} echo 'ok';",
    "declared names": "namespace App; class Client {} class Pdo {} function hrtime() { return 0; } echo 'ok';",
    "stderr": "fwrite(STDERR, 'e'); echo 'o';",
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("state", ["off", "agent", "no agent"])
def test_output_is_byte_identical(site: Site, name: str, state: str) -> None:
    """PHP-13: stdout, stderr and exit code are the same without the client, off, with and without an agent."""
    code = PROGRAMS[name]
    plain = site.run(code, client=False)
    if state == "off":
        site.configure(profiling_enabled=0)
    if state == "agent":
        with site.agent() as agent:
            done = site.run(code)
            agent.one("end")
    else:
        done = site.run(code)
    assert (done.stdout, done.stderr, done.returncode) == (plain.stdout, plain.stderr, plain.returncode)


# An output callback that throws at the very end runs within fastcgi_finish_request() instead of after everything: PHP
# then shows the text and not the error. The bare FPM has no functions or variables of ours to compare.
NOT_AS_PAGES = {"stderr", "functions", "globals", "throwing buffer"}
FPM_PROGRAMS = [name for name in PROGRAMS if name not in NOT_AS_PAGES]


@pytest.mark.parametrize("name", FPM_PROGRAMS)
def test_pages_are_byte_identical(site: Site, fpm: Fpm, bare_fpm: Fpm, name: str) -> None:
    """PHP-13: body, headers, status and what FPM writes to stderr are the same with the client."""
    code = PROGRAMS[name]
    plain = bare_fpm.get(site, code)
    with site.agent() as agent:
        page = fpm.get(site, code)
        agent.one("end")
    assert (page.body, page.headers, page.errors) == (plain.body, plain.headers, plain.errors)


def test_an_upload_that_is_too_large(site: Site, fpm: Fpm) -> None:
    """PHP-13: a body beyond post_max_size holds no worker: finishing early would read it away byte by byte."""
    with site.agent() as agent:
        began = time.monotonic()
        page = fpm.get(site, "echo 'page';", method="POST", body=b"x=" + b"y" * (32 << 20))
        took = time.monotonic() - began
        agent.one("end")
    assert page.body.endswith(b"page")
    assert took < 1.5, "2.7 s without the exception for it"


DISABLED = [
    "putenv,getenv",
    "getrusage,file_get_contents",
    "stream_socket_client,stream_select,stream_set_blocking",
    "fopen,fwrite,flock,rename,unlink,chmod,touch,scandir",
    "set_error_handler",
    "register_shutdown_function",
    "hrtime",
    "parse_ini_file",
    "random_bytes",
    "json_encode",
    "microtime",
    "gethostname,getmypid,http_response_code,headers_list",
    "fastcgi_finish_request,ignore_user_abort",
    "ini_set,ini_get,error_log",
    "debug_backtrace,preg_match,preg_replace",
    "memory_get_usage,memory_get_peak_usage,error_get_last",
    "filemtime,clearstatcache,file_exists",
    "usleep,feof,fread,fclose,is_resource",
]


@pytest.mark.parametrize("functions", DISABLED)
@pytest.mark.parametrize("agent", [True, False])
def test_disabled_functions(site: Site, functions: str, agent: bool) -> None:
    """PHP-13: with `disable_functions` the page is the same; what can still be measured is."""
    code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $d->query('select 1'); echo 'page'; exit(3);"
    site.configure(profiling_threshold_ms=0)
    if agent:
        with site.agent(answer=None):
            done = site.run(code, php={"disable_functions": functions})
    else:
        done = site.run(code, php={"disable_functions": functions})
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 3)


def test_open_basedir(site: Site) -> None:
    """PHP-13: with open_basedir neither /proc nor the spool may be read: what can be measured still arrives."""
    inside = f"{PHP}:{site.root}/app.php:{site.ini}"
    with site.agent() as agent:
        done = site.run("echo 'page';", php={"open_basedir": inside})
        assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)
        agent.drained(0)
    with site.agent() as agent:
        done = site.run("echo 'page';", php={"open_basedir": f"{inside}:{site.socket}"})
        end = agent.one("end")
    assert (done.stdout, done.stderr) == (b"page", b"")
    assert "ss" not in end
    assert set(end["cpu"]) == {"user_us", "system_us"}


def test_without_excimer(site: Site) -> None:
    """PHP-03: without the extension time, CPU and SQL are there and no profile."""
    with site.agent() as agent:
        site.run("usleep(50000);", extensions=("pdo",))
        end = agent.one("end")
    assert "profile" not in end
    assert end["ms"] >= 50


@pytest.mark.parametrize("how", ["prepend twice", "require", "require_once after prepend"])
def test_included_in_any_way(site: Site, how: str) -> None:
    """COMM-06: by auto_prepend_file or `require`, once or several times: one request."""
    code = {
        "prepend twice": f"include {str(STUB)!r}; include {str(STUB)!r};",
        "require": f"require {str(LISTENER)!r};",
        "require_once after prepend": f"require_once {str(LISTENER)!r};",
    }[how]
    with site.agent() as agent:
        done = site.run(code + "echo bitville_apm_is_active() ? 'on' : 'off';", client=how != "require")
        agent.one("end")
        assert len(agent.all("begin")) == 1
    assert (done.stdout, done.stderr) == (b"on", b"")


@pytest.mark.parametrize("damage", ["no listener", "torn listener", "torn class", "no class", "unreadable"])
def test_a_damaged_client_costs_no_page(site: Site, damage: str) -> None:
    """PHP-17: the stub takes the client only if it is whole; a page never dies of it."""
    copy = site.root / "client"
    shutil.copytree(PHP, copy)
    target = copy / ("src/Request.php" if "class" in damage else "listener.php")
    if damage.startswith("torn"):
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    elif damage == "unreadable":
        target.unlink()
        target.mkdir()
    else:
        target.unlink()
    done = site.run("echo 'page';", prepend=copy / "prepend.php")
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)


def test_a_read_only_disk(site: Site) -> None:
    """PHP-13: a spool on a full or read-only disk: here /proc, which takes no file from anybody."""
    site.configure(disk_buffer_path="/proc/self", profiling_threshold_ms=0)
    done = site.run("echo 'page';")
    assert (done.stdout, done.stderr, done.returncode) == (b"page", b"", 0)


def test_a_full_disk_leaves_no_torn_file(site: Site) -> None:
    """COMM-08: a write that the disk cuts short leaves neither a torn file nor a temporary one."""
    full = Path("/dev/full")
    assert full.exists()
    site.configure(profiling_threshold_ms=0)
    # Each way into the spool meets the file size limit of the process: the kernel cuts the write.
    done = site.run(
        "pcntl_signal(SIGXFSZ, SIG_IGN); posix_setrlimit(POSIX_RLIMIT_FSIZE, 100, 100); echo 'page';",
        extensions=("pdo", "posix", "excimer"),
    )
    assert done.stdout == b"page"
    assert [path.name for path in site.spool.iterdir() if not path.name.startswith(".")] == []


def test_php_with_every_error_shown(site: Site) -> None:
    """PHP-13: with E_ALL, display_errors and assertions on there is no notice or deprecation of ours."""
    php = {"error_reporting": "-1", "display_errors": "1", "zend.assertions": "1", "html_errors": "0"}
    with site.agent() as agent:
        code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $s = $d->prepare('select ?'); $s->execute([1]);"
        done = site.run(code + "bitville_apm_add_context('a', null); bitville_apm_external([], 'x');", php=php)
        agent.one("end")
    assert (done.stdout, done.stderr) == (b"", b"")


def test_helpers_do_nothing_when_off(site: Site) -> None:
    """PHP-10: each helper exists and does nothing while profiling is off; no connection, no file."""
    site.configure(profiling_enabled=0)
    code = """
    bitville_apm_add_context('a', 1); bitville_apm_set_endpoint('x'); bitville_apm_external('h', 1);
    bitville_apm_begin('j'); bitville_apm_end();
    echo json_encode([bitville_apm_is_active(), bitville_apm_correlation_id(), bitville_apm_get_correlation_id(),
        bitville_apm_sql_comment(), bitville_apm_check_socket()['exists']]);
    """
    with site.agent() as agent:
        assert site.run(code).stdout == b'[false,"","","",false]'
    assert agent.connections == []
    assert list(site.spool.iterdir()) == []


def test_helpers_when_on(site: Site) -> None:
    """PHP-10, COMM-10, PHP-12: id, comment and the look at the socket."""
    code = """
    $id = bitville_apm_correlation_id();
    echo json_encode([bitville_apm_is_active(), $id === bitville_apm_get_correlation_id(),
        bitville_apm_sql_comment() === "/* correlation:$id */ ", bitville_apm_check_socket()]);
    """
    with site.agent():
        seen = site.run(code).stdout.decode()
    path = str(site.socket).replace("/", "\\/")
    look = f'{{"socket_path":"{path}","exists":true,"is_socket":true,"writable_dir":true}}'
    assert seen == f"[true,true,true,{look}]"


def test_functions_of_the_application_win(site: Site) -> None:
    """PHP-10: a helper is defined only if its name is still free."""
    code = f"function bitville_apm_is_active() {{ return 'mine'; }} require {str(LISTENER)!r};"
    code += "echo bitville_apm_is_active();"
    assert site.run(code, client=False).stdout == b"mine"
