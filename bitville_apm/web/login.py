"""Logging in and out."""

from __future__ import annotations

from typing import ClassVar

import attrs
from klein import Klein

from bitville_apm.web.access import Access
from bitville_apm.web.static import Static


@attrs.define(eq=False, slots=False)
class Login:
    """The routes of logging in."""

    access: Access
    static: Static
    app: ClassVar[Klein] = Klein()
