"""Pages below a path of a proxy (LIST-08): every address of ours begins with what the proxy takes off.

Pages are written for `/`. A proxy that we believe tells its path in `X-Forwarded-Prefix`, and it is put in front of
the addresses when a page is whole: one place, where no page can forget it. Whatever comes from records has its `<`,
`>` and quotes escaped by then, so what is changed are attributes of our own tags and nothing else.
"""

from __future__ import annotations

import re

from twisted.web.server import Request

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,64}){1,8}\Z")
_TAG = re.compile(r"<[a-z][^<>]*>")
_ADDRESS = re.compile(r'(?<=\s)(href|src|action)="/(?!/)')


def prefix_of(request: Request) -> str:
    """The proxy's path, without a slash at its end; empty when there is none or it is no path."""
    prefix: str = getattr(request, "prefix", "").rstrip("/")
    return prefix if _PREFIX.match(prefix) else ""


def prefixed(html: str, prefix: str) -> str:
    """A page's HTML with the prefix before each address that begins at the root."""
    if not prefix:
        return html
    return _TAG.sub(lambda tag: _ADDRESS.sub(rf'\1="{prefix}/', tag[0]), html)
