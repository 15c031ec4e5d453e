"""Our style sheet, script and pictures, under addresses that change with their content."""

from __future__ import annotations

import hashlib
import re
import zlib
from pathlib import Path

from twisted.web.resource import Resource
from twisted.web.server import Request

from bitville_apm.http import HttpProblem, answer_problem

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8", ".svg": b"image/svg+xml"}

_GZIP = re.compile(rb"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")


def _packed(content: bytes) -> bytes:
    """As gzip has it. Only what is the same for everybody: a page that repeats what is asked must not be packed."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return packer.compress(content) + packer.flush()


class Static(Resource):
    """The files of `static/`, read once. Pages ask `address` for each, so that browsers may keep them for ever."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._addresses: dict[str, str] = {}
        self._files: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        for path in sorted(_FOLDER.iterdir()):
            if path.suffix in _TYPES:
                content = path.read_bytes()
                name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
                self._addresses[path.name] = f"/static/{name}"
                self._files[name.encode()] = content, _packed(content), _TYPES[path.suffix]

    def address(self, name: str) -> str:
        """Where a browser finds a file."""
        return self._addresses[name]

    def render(self, request: Request) -> bytes:
        """A file's content, to be kept for a year."""
        if request.method not in (b"GET", b"HEAD"):
            return answer_problem(request, HttpProblem(405, "files are only for reading", headers={"Allow": "GET"}))
        found = self._files.get(b"/".join(request.postpath or ()))
        if found is None:
            return answer_problem(request, HttpProblem(404, "no such file"))
        content, packed, content_type = found
        if _GZIP.search(request.getHeader(b"accept-encoding") or b""):
            content = packed
            request.setHeader(b"Content-Encoding", b"gzip")
        request.setHeader(b"Vary", b"Accept-Encoding")
        request.setHeader(b"Content-Type", content_type)
        request.setHeader(b"Cache-Control", b"public, max-age=31536000, immutable")
        return content
