"""Records for a real collector, and what their messages are called."""

from __future__ import annotations

import time
from typing import Any

from tests.collector.rig import Rig, item
from tests.store.make import end_body, new_id


def end(ms: float = 100.0, **more: Any) -> dict[str, Any]:
    """An end record of now."""
    return end_body(new_id(), time.time() - 1, ms, **more)


def posted(rig: Rig, key: str, bodies: list[dict[str, Any]], project: str = "shop") -> list[str]:
    """Send records; the `_bv_id` that each message must have."""
    for at in range(0, len(bodies), 100):
        batch = bodies[at : at + 100]
        assert rig.post(key, *(item(body) for body in batch)).json["stored"] == len(batch)
    return [f"{project}/end/{body['id']}" for body in bodies]
