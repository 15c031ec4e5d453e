"""`bitville demo`: collector, agent and a shop with traffic, until Ctrl-C."""

from __future__ import annotations

from typing import Any

from bitville_apm.demo import command


def add_to(commands: Any) -> None:
    """The command; its options are the demo's own."""
    demo = commands.add_parser("demo", help="collector, agent and a small shop with traffic, to look at")
    command.add_options(demo)
    demo.set_defaults(run=command.main)
