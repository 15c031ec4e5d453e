"""Our style sheet, script and pictures, under addresses that change with their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from bitville_apm.http import HttpProblem, answer_problem

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8", ".svg": b"image/svg+xml"}


class Static(Resource):
    """The files of `static/`, read once. A page asks `address` for each, so that browsers may keep them for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._addresses: dict[str, str] = {}
        for path in sorted(_FOLDER.iterdir()):
            content_type = _TYPES.get(path.suffix)
            if content_type is None:
                continue
            content = path.read_bytes()
            name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}{path.suffix}"
            self._addresses[path.name] = f"/static/{name}"
            self.putChild(name.encode(), File(content, content_type))

    def address(self, name: str) -> str:
        """Where a browser finds a file."""
        return self._addresses[name]

    def getChild(self, path: bytes, request: IRequest) -> IResource:
        """Anything else is not there."""
        return _Missing()

    def render(self, request: IRequest) -> bytes:
        """The folder itself is not for reading."""
        return _Missing().render(request)


class File(Resource):
    """One file's content."""

    isLeaf = True

    def __init__(self, content: bytes, content_type: bytes, cache: bytes = b"public, max-age=31536000, immutable"):
        super().__init__()
        self._content = content
        self._type = content_type
        self._cache = cache

    def render(self, request: IRequest) -> bytes:
        """The content, to be kept for a year."""
        if request.method not in (b"GET", b"HEAD") or request.postpath:
            return _Missing().render(request)
        request.setHeader(b"Content-Type", self._type)
        request.setHeader(b"Cache-Control", self._cache)
        return self._content


class _Missing(Resource):
    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        return answer_problem(request, HttpProblem(404, "no such file"))
