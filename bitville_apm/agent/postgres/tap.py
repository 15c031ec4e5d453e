"""Puts the watchers of `[postgres NAME]` together; apart from the agent's own tap, so that psycopg stays optional."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bitville_apm.agent.config import AgentConfig
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.postgres.source import Databases, PostgresSource
from bitville_apm.agent.worker import Worker
from bitville_apm.interfaces import ISource


def servers(
    settings: AgentConfig, reactor: Any, pipeline_of: Callable[[str], Pipeline]
) -> tuple[list[ISource], list[Worker]]:
    """One source a section, and the threads of all. `pipeline_of` gives the pipeline of a section's own key."""
    found: list[ISource] = []
    workers: list[Worker] = []
    databases: dict[str, Databases] = {}
    for server in settings.postgres:
        pipeline = pipeline_of(server.key)
        sessions, statistics, log = (
            Worker(reactor, f"postgres {server.name} {lane}") for lane in ("sessions", "statistics", "log")
        )
        workers += [sessions, statistics, log]
        found.append(
            PostgresSource(
                server=server.name,
                host=settings.agent.host,
                dsn=server.dsn,
                log=server.log,
                pipeline=pipeline,
                databases=databases.setdefault(pipeline.name, Databases()),
                run=(sessions, statistics, log),
                clock=reactor,
                now=time.time,
            )
        )
    return found, workers
