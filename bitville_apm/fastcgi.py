"""A FastCGI client, as much of it as asking php-fpm for a page takes.

The format is that of the FastCGI specification 1.0, sections 3.3 to 5.5: records of an eight byte header, content
and padding. `request` and `Answer` know bytes only; `ask` is the one function with a socket.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

import attrs

_HEADER = struct.Struct(">BBHHBx")
_VERSION, _REQUEST_ID, _RESPONDER = 1, 1, 1
_BEGIN, _END, _PARAMS, _STDIN, _STDOUT, _STDERR = 1, 3, 4, 5, 6, 7
_CONTENT = 0xFFFF


class FastCgiError(Exception):
    """The server answered something that is no FastCGI, or closed before the end of its answer."""


def request(params: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes that ask for one page and have the connection closed after it."""
    begin = _record(_BEGIN, struct.pack(">HB5x", _RESPONDER, 0))
    pairs = b"".join(_pair(name.encode(), value.encode()) for name, value in params.items())
    return begin + _stream(_PARAMS, pairs) + _stream(_STDIN, body)


def _record(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(_VERSION, kind, _REQUEST_ID, len(content), 0) + content


def _stream(kind: int, content: bytes) -> bytes:
    """A stream ends with an empty record."""
    cut = (content[i : i + _CONTENT] for i in range(0, len(content), _CONTENT))
    return b"".join(_record(kind, piece) for piece in cut) + _record(kind, b"")


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(name) + _length(value) + name + value


def _length(text: bytes) -> bytes:
    return bytes([len(text)]) if len(text) < 0x80 else struct.pack(">I", len(text) | 0x8000_0000)


@attrs.define
class Answer:
    """What comes back, fed in pieces of any size. `finished` once the server has said so."""

    finished: bool = False
    errors: bytes = b""
    _output: bytearray = attrs.field(factory=bytearray)
    _unread: bytearray = attrs.field(factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come. Raises `FastCgiError`."""
        self._unread += data
        while len(self._unread) >= _HEADER.size and not self.finished:
            version, kind, _, length, padding = _HEADER.unpack_from(self._unread)
            if version != _VERSION:
                raise FastCgiError(f"version {version} instead of {_VERSION}")
            end = _HEADER.size + length
            if len(self._unread) < end + padding:
                return
            content = bytes(self._unread[_HEADER.size : end])
            del self._unread[: end + padding]
            if kind == _STDOUT:
                self._output += content
            elif kind == _STDERR:
                self.errors += content
            self.finished = kind == _END

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the page, names in lower case."""
        lines = bytes(self._output).partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def status(self) -> int:
        """The status of the page; CGI leaves it out for 200."""
        return int(self.headers.get("status", "200").split()[0])

    @property
    def body(self) -> bytes:
        """The page itself."""
        return bytes(self._output).partition(b"\r\n\r\n")[2]


def ask(path: str, params: Mapping[str, str], body: bytes = b"", timeout: float = 30.0) -> Answer:
    """Ask the server behind a UNIX socket for one page. Raises `OSError` and `FastCgiError`."""
    answer = Answer()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(request(params, body))
        while not answer.finished:
            data = connection.recv(65536)
            if not data:
                raise FastCgiError("closed before the end of the answer")
            answer.feed(data)
    return answer
