"""What P3 and P4 share: the C program that plays clients and the server to compare with, and CPU time of a process."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import twisted

ID = "00000000-0000-4000-8000-000000000000"


def compiled(directory: Path) -> str:
    """The C program. Says so and ends where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("not run: no C compiler (cc)")
    program = directory / "p3_peer"
    source = Path(__file__).with_name("p3_peer.c")
    subprocess.run([compiler, "-O2", "-pthread", "-o", str(program), str(source)], check=True)
    return str(program)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process with all its threads, as the scheduler counts them."""
    ran = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            ran += int((task / "schedstat").read_text().split()[0])
    return ran / 1e9


@contextlib.contextmanager
def running(command: Sequence[str], socket: Path) -> Iterator[int]:
    """A server until the end of this, and its process id; ready when its socket is there."""
    socket.unlink(missing_ok=True)
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 10
        while not socket.exists():
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit(f"does not start: {' '.join(command)}")
            time.sleep(0.02)
        time.sleep(0.2)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def asked(program: str, socket: Path, clients: int, requests: int, hold_ms: float, *lines: Path) -> int:
    """Let clients ask; how many were answered. Lines: the end, the begin."""
    command = [program, "ask", str(socket), str(clients), str(requests), str(round(hold_ms * 1000)), *map(str, lines)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(told[1])


def written(path: Path, record: dict[str, object], size: int = 0) -> Path:
    """A file with one line, padded to `size` bytes with what compresses like code."""
    words = ["App\\Shop\\Cart;loadItems", "Doctrine\\ORM\\Query;execute", "4711", ""]
    padding: list[str] = []
    while size and len(json.dumps({**record, "context": {"padding": padding}}, separators=(",", ":"))) < size - 50:
        padding.append(words[len(padding) % len(words)] + str(len(padding)))
    if size:
        record = {**record, "context": {"padding": padding}}
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
    return path


def begin_line(path: Path) -> Path:
    """A begin line as the client writes it."""
    return written(
        path,
        {"t": "begin", "v": 2, "id": ID, "at": time.time(), "pid": 4711, "method": "GET", "uri": "/product/42",
         "client": "203.0.113.9", "agent": "Firefox", "ss": [12345678, 2345678]},
    )  # fmt: skip


def end_line(path: Path, size: int) -> Path:
    """A whole end line of about `size` bytes."""
    return written(
        path,
        {"t": "end", "v": 2, "id": ID, "at": time.time(), "ms": 20.5, "request": {"method": "GET", "uri": "/a"},
         "response": {"status": 200}, "ss": [22345678, 3345678], "memory": {"peak_bytes": 4194304},
         "sql": {"n": 3, "ms": 4.5, "queries": [{"sql": "SELECT * FROM product WHERE id = ?", "ms": 1.5, "n": 3}]}},
        size,
    )  # fmt: skip


def version1_line(path: Path, size: int) -> Path:
    """A line of the first version of about `size` bytes."""
    return written(
        path,
        {"correlation_id": ID, "timestamp": time.time(), "elapsed_ms": 520.5, "request": {"method": "GET", "uri": "/a"},
         "response": {"status_code": 200}, "server": {"hostname": "web1", "php_version": "8.2.0"}},
        size,
    )  # fmt: skip


def told(figures: Sequence[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(figures):.1f} ({min(figures):.1f} to {max(figures):.1f})"


def machine() -> str:
    """What ran it."""
    return f"Python {platform.python_version()}, Twisted {twisted.__version__}, {platform.release()}, {sys.platform}"
