"""What an application may call, and that it never depends on it."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest

from tests.php.peer import PHP, Site

HELPERS = re.findall(r"^    function (\w+)\(", (PHP / "helpers.php").read_text(), re.MULTILINE)
FIRST = [
    "send_profiling_data",
    "transmit_or_buffer",
    "write_to_disk_buffer",
    "cleanup_old_buffers",
    "check_listener_socket",
]
ARGUMENTS = ["'x', 'y', false", "'x', 1.5", "null, null", "[], []", "new stdClass, INF", "str_repeat('x', 99999), -1"]
COMPAT = str(PHP / "compat.php")


def run(site: Site, code: str, **settings: object) -> tuple[Any, list[dict[str, Any]]]:
    """What a program prints as JSON, and the lines it sent."""
    site.configure(None, **settings)
    with site.agent() as agent:
        done = site.run(code)
        assert (done.returncode, done.stderr) == (0, b""), done.stdout
        if settings.get("profiling_enabled", 1):
            agent.all("end")
        return json.loads(done.stdout), list(agent.lines)


@pytest.mark.parametrize("name", HELPERS)
def test_each_helper_off_and_on(site: Site, name: str) -> None:
    """PHP-10, PHP-13: off it does nothing and answers nothing; neither then nor on does any argument throw or print."""
    taken = f"$n = (new ReflectionFunction('{name}'))->getNumberOfParameters(); $out = [];"
    calls = "".join(f"$a = [{given}]; $out[] = {name}(...array_slice($a, 0, $n));" for given in ARGUMENTS)
    code = taken + calls + "echo json_encode($out, JSON_PARTIAL_OUTPUT_ON_ERROR);"
    out, lines = run(site, code, profiling_enabled=0)
    assert lines == []
    if name == "bitville_apm_check_socket":
        nothing: Any = {"socket_path": "", "exists": False, "is_socket": False, "writable_dir": False}
        assert out == [nothing] * len(ARGUMENTS)
    elif name != "bitville_apm_attach_http":
        assert {str(answer) for answer in out} <= {"", "None", "False"}
    run(site, code)


def test_every_name_promised(site: Site) -> None:
    """PHP-10: the helpers are there, all under one prefix; classes under one namespace; two names for the id."""
    promised = "correlation_id sql_comment add_context is_active attach_sql get_correlation_id set_endpoint external"
    promised += " check_socket begin end"
    assert {f"bitville_apm_{name}" for name in promised.split()} <= set(HELPERS)
    assert [name for name in HELPERS if not name.startswith("bitville_apm_")] == []
    ours = "array_filter(get_declared_classes(), function ($c) { $f = (new ReflectionClass($c))->getFileName();"
    ours += (
        f" return $f !== false && strpos($f, {json.dumps(str(PHP))}) === 0 && strpos($c, 'BitvilleApm\\\\') !== 0; }})"
    )
    code = f"echo json_encode([{ours}, bitville_apm_correlation_id(), bitville_apm_get_correlation_id(),"
    code += " bitville_apm_sql_comment(), bitville_apm_is_active()]);"
    (foreign, mine, same, comment, active), lines = run(site, code)
    assert foreign == []
    assert mine == same == lines[0]["id"]
    assert comment == f"/* correlation:{mine} */ "
    assert active is True


def test_functions_of_the_first_version(site: Site) -> None:
    """PHP-10: loaded on request only, each only if free, harmless on, off and without the client."""
    code = f"$before = array_filter(json_decode('{json.dumps(FIRST)}'), 'function_exists'); require '{COMPAT}';"
    code += "echo json_encode([$before, send_profiling_data(['a' => 1], true), transmit_or_buffer([]),"
    code += " write_to_disk_buffer([], '/x'), cleanup_old_buffers(), check_listener_socket()['is_socket']]);"
    assert run(site, code)[0] == [[], True, True, True, 0, True]
    assert run(site, code, profiling_enabled=0)[0] == [[], False, False, False, 0, False]
    assert json.loads(site.run(code, client=False).stdout) == [[], False, False, False, 0, False]
    code = f"function cleanup_old_buffers() {{ return 'mine'; }} require '{COMPAT}'; require '{COMPAT}';"
    assert run(site, code + "echo json_encode(cleanup_old_buffers());")[0] == "mine"


def test_composer(site: Site) -> None:
    """PHP-10: composer.json maps the namespace to the classes' folder, and what it names begins a request."""
    told = json.loads((PHP / "composer.json").read_text())
    assert told["autoload"]["psr-4"] == {"BitvilleApm\\": "src/"}
    for path in (PHP / "src").glob("[A-Z]*.php"):
        assert re.search(rf"^(final |abstract )?(class|interface) {path.stem}\b", path.read_text(), re.MULTILINE), path
    (site.root / "vendor").mkdir()
    shutil.copytree(PHP, site.root / "vendor" / "client")
    with site.agent() as agent:
        files = "".join(f"require __DIR__ . '/vendor/client/{name}';" for name in told["autoload"]["files"])
        done = site.run(files + files + "echo json_encode(bitville_apm_is_active());", client=False)
        assert done.stdout == b"true"
        assert agent.one("end")["request"]["method"] == "CLI"
