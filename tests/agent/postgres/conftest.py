"""One server for all tests that need no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bitville_apm.cli.postgres import setup_sql
from tests.agent.postgres.server import Server, serving

PRELOADED = "shared_preload_libraries = 'pg_stat_statements,auto_explain'\n"
LOGS = """
logging_collector = on
log_destination = 'stderr,csvlog,jsonlog'
log_filename = 'postgresql-%H%M%S.log'
log_line_prefix = '%m [%p] %q%u@%d/%a %e '
log_lock_waits = on
deadlock_timeout = 200
log_min_duration_statement = 250
auto_explain.log_min_duration = 250
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Version 18 with the role `bitville` as `bitville postgres setup` makes it, and a table of two rows."""
    with serving(18, PRELOADED + LOGS) as server:
        server.run("psql", "-h", str(server.root), "-p", str(server.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1",
                   input=setup_sql("bitville").encode())  # fmt: skip
        server.sql("CREATE TABLE item (id int PRIMARY KEY, v text)", "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
        yield server
