"""The client in PHP 7.4 and 8.4: the same code does the same there, to the byte.

These PHPs are builds for WebAssembly, which npm has: without sockets, so what is compared is all that comes before one.
The judge is the PHP of this machine, which the other tests judge.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.php import secrets
from tests.php.peer import PHP, Site, base_options
from tests.tools import lacking, require

HERE = Path(__file__).parent
STATEMENTS = HERE.parent / "wire" / "statements.tsv"
PACKAGES = "3.1.56"
VERSIONS = ["7.4", "8.4"]
SETTINGS = [
    "profiling_enabled = 1\nprofiling_threshold_ms = 250\ndaemon_socket_path = /s\nclient_ip = NETWORK",
    "[profiling]\nenabled = yes\nthreshold_ms = 1e99\n[x]\nlistener_socket_path = /s/{project}/x\nproject_name=a/b",
    "profiling_enabled = '1' ; a note\nprofiler_period_ms = NAN\nredact_keys = a, b|c\nxhprof_flags[] = x\n",
    "[[[\n= (", "", "enabled = on\nlistener_timeout_ms = 5000\ndisk_buffer_path = ../x\nsql_stack_trace_limit = -3",
]  # fmt: skip
AGENTS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1)", "curl/8.1", "", "Mozilla/5.0 Chrome/1 Safari/2", "\xff", "x" * 999,
]  # fmt: skip


def unescaped(field: str) -> bytes:
    """A field of the shared vectors as the bytes it stands for."""

    def one(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes.fromhex(match[1].decode())
        return {b"t": b"\t", b"n": b"\n", b"r": b"\r"}.get(match[2], match[2])

    return re.sub(rb"\\(?:x([0-9a-f]{2})|(.))", one, field.encode())


def rows() -> list[list[str]]:
    return [line.split("\t") for line in STATEMENTS.read_text().splitlines()[1:]]


def vectors() -> dict[str, Any]:
    return {
        "statements": [(base64.b64encode(unescaped(sql)).decode(), dialect) for dialect, sql, *_ in rows()],
        "texts": [*secrets.everything(), "4111 1111 1111 1111", "SQLSTATE[23000]: Duplicate entry 'joe' (4711)"],
        "names": ["compass", *(spelling for name in secrets.NAMES for spelling in secrets.spellings(name))],
        "settings": SETTINGS,
        "agents": AGENTS,
    }


def native(site: Site, script: Path, *arguments: str) -> str:
    options = base_options(("mysqlnd", "mysqli", "pdo", "pdo_sqlite", "tokenizer", "ctype"))
    done = subprocess.run(
        ["php", *options, str(script), *arguments], capture_output=True, text=True, check=False, cwd=site.root
    )
    assert done.stderr == ""
    return done.stdout


def given(site: Site) -> str:
    path = site.root / "vectors.json"
    path.write_text(json.dumps(vectors() | {"spool": str(site.spool)}))
    return str(path)


def test_what_the_versions_are_compared_with(site: Site) -> None:
    """PHP-13, PHP-09: the judge itself: in this PHP the pure parts run without a notice and leave no secret."""
    text = native(site, HERE / "pure.php", str(PHP), given(site))
    found = json.loads(text)
    assert found["files"] > 40
    for row, (statement, fingerprint) in zip(rows(), found["statements"], strict=True):
        assert (base64.b64decode(statement), fingerprint) == (unescaped(row[2]), row[3]), row
    assert "SECRET" not in json.dumps([row[0] for row in found["texts"]])
    assert found["spooled"].keys() == {"profile_TIME_HEX.json", "short_PID_HOST.ndjson"}
    assert found["record"][0] is True


@pytest.fixture(scope="session")
def modules() -> Path:
    """Where the packages of these PHPs are: kept from run to run beside pip's and npm's own caches."""
    require("node", "npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bitville-apm-tests" / f"php-{PACKAGES}"
    names = ["universal", *(f"node-{version.replace('.', '-')}" for version in VERSIONS)]
    if not all((cache / "node_modules" / "@php-wasm" / name).is_dir() for name in names):
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        wanted = [f"@php-wasm/{name}@{PACKAGES}" for name in names]
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(cache), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cache)
        if done.returncode != 0:
            shutil.rmtree(cache, ignore_errors=True)
            lacking(f"npm did not install @php-wasm: {done.stderr[-300:]}")
    return cache


def elsewhere(
    modules: Path, version: str, script: str, arguments: list[str], files: dict[str, bytes]
) -> dict[str, Any]:
    """A script of this folder in another PHP, with the client in /client."""
    for path in PHP.rglob("*.php"):
        files[f"/client/{path.relative_to(PHP)}"] = path.read_bytes()
    files["/there/script.php"] = (HERE / script).read_bytes()
    job = {
        "files": {path: base64.b64encode(content).decode() for path, content in files.items()},
        "folders": ["/client", "/client/src", "/there", "/there/spool"],
        "script": "/there/script.php",
        "arguments": arguments,
        "read": "/there/spool",
    }
    command = ["node", str(HERE / "wasm" / "run.mjs"), str(modules), version.replace(".", "-")]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert answer["version"].startswith(version + ".")
    return answer


@pytest.mark.full
@pytest.mark.parametrize("version", VERSIONS)
def test_pure_parts(site: Site, modules: Path, version: str) -> None:
    """PHP-13, PHP-09: statements, redaction, settings, facts, records, spool: in each version the same as in this PHP.

    Every file of the client is compiled there on the way.
    """
    here = json.loads(native(site, HERE / "pure.php", str(PHP), given(site)))
    asked = json.dumps(vectors() | {"spool": "/there/spool"}).encode()
    answer = elsewhere(modules, version, "pure.php", ["/client", "/there/vectors.json"], {"/there/vectors.json": asked})
    assert (answer["errors"], answer["code"]) == ("", 0), answer
    there = json.loads(answer["text"])
    for settings in (here, there):
        for read in settings["settings"]:
            read.pop("spool")
    assert there.keys() == here.keys()
    for part, made in here.items():
        assert there[part] == made, part


@pytest.mark.full
@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_request(site: Site, modules: Path, version: str) -> None:
    """PHP-13, PHP-02: a page from begin to spool: output, statements, context and calls as in this PHP."""
    settings = "profiling_enabled = 1\nprofiling_threshold_ms = 0\ndaemon_socket_path = /none\ndisk_buffer_path = %s\n"
    site.configure(settings % site.spool)
    shown = native(site, HERE / "page.php", str(PHP), str(site.ini), "0")
    (here,) = site.spooled()
    ini = {"/there/profiling.ini": (settings % "/there/spool").encode()}
    answer = elsewhere(modules, version, "page.php", ["/client", "/there/profiling.ini", "1500000"], ini)
    assert (answer["text"], answer["code"]) == (shown, 0)
    # It is slow enough that the client may say so.
    said = re.sub(r"(?m)^.*Bitville APM: handing a request over took \d+ ms\n", "", answer["errors"])
    assert said == ""
    assert shown == "found 2 refused [true,36,false]"
    (text,) = answer["read"].values()
    there = json.loads(text)
    assert "geheim" not in text
    assert [query["sql"] for query in there["line"]["sql"]["queries"]] == [
        query["sql"] for query in here["line"]["sql"]["queries"]
    ]
    assert there["line"]["calls"][0]["target"] == here["line"]["calls"][0]["target"] == "api.example.org"
    assert there["line"]["context"] == here["line"]["context"]
    assert there["line"]["request"]["route"] == here["line"]["request"]["route"] == "page/{id}"
    assert there["line"]["server"]["php"] == answer["version"]
