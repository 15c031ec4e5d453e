"""Connections that say nothing, or a byte a second of a line that does not end, in a process of their own.

    python -m tests.faults.tools.crowd SOCKET SILENT DRIPPING

says `ready` when all are connected, and how long each lived (s) once all are closed, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import resource
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def crowd(path: str, silent: int, dripping: int) -> list[float]:
    """Connect them all, drip, and wait until the last is closed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    selector = selectors.DefaultSelector()
    for n in range(silent + dripping):
        if n % 100 == 99:
            time.sleep(0.05)  # a crowd, not a storm: more at once than the queue holds is refused by the kernel
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.connect(path)  # blocks while the queue is full
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ, (n >= silent, time.monotonic()))
    print("ready", flush=True)  # noqa: T201
    lived: list[float] = []
    dripped = 0.0
    while len(lived) < silent + dripping:
        for key, _ in selector.select(0.2):
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
            lived.append(time.monotonic() - key.data[1])
        if time.monotonic() - dripped >= 1.0:
            dripped = time.monotonic()
            for key in selector.get_map().values():
                if key.data[0]:
                    with contextlib.suppress(OSError):
                        key.fileobj.send(b"x")  # type: ignore[union-attr]
    return lived


def gathered(path: Path, silent: int, dripping: int) -> subprocess.Popen[bytes]:
    """One under way, connected."""
    command = [sys.executable, "-m", __name__, str(path), str(silent), str(dripping)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


if __name__ == "__main__":
    print(json.dumps(crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
