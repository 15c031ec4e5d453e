"""Connections to HTTP servers that are kept between requests."""

from __future__ import annotations

from typing import Any

from twisted.web.client import HTTPConnectionPool


class _QuietFactory(HTTPConnectionPool._factory):  # type: ignore[misc, valid-type]
    noisy = False


def quiet_pool(reactor: Any) -> HTTPConnectionPool:
    """A pool that logs nothing: a connection more or less is nothing to tell."""
    pool = HTTPConnectionPool(reactor)
    pool._factory = _QuietFactory
    return pool
