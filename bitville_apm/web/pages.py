"""The pages."""

from __future__ import annotations

from typing import ClassVar

import attrs
from klein import Klein

from bitville_apm.web.access import Access
from bitville_apm.web.questions import Questions
from bitville_apm.web.static import Static


@attrs.define(eq=False, slots=False)
class Pages:
    """The routes of the pages."""

    access: Access
    questions: Questions
    static: Static
    app: ClassVar[Klein] = Klein()
