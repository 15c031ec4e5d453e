"""`bitville postgres`: the role an agent watches a server with, and what each server shows to it."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from typing import Any

from bitville_apm import limits
from bitville_apm.agent.config import PostgresSection
from bitville_apm.cli import inis
from bitville_apm.cli.errors import NotDone

SETUP = """\
-- For a superuser, once a server, in the database that the dsn in agent.ini names:
--     bitville postgres setup | sudo -u postgres psql -d DATABASE
-- It may be run again. On a managed server run it as the administrator you were given.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} LOGIN;
    END IF;
END $$;
-- Not more connections than this, whatever goes wrong; the agent holds two.
ALTER ROLE {role} CONNECTION LIMIT {connections};
-- pg_monitor shows what all sessions run and wait for, statistics, settings, and the log's name. No table of yours.
GRANT pg_monitor TO {role};
-- Where the server writes its log; before version 17 pg_monitor may not ask that.
DO $$ BEGIN
    GRANT EXECUTE ON FUNCTION pg_current_logfile(), pg_current_logfile(text) TO {role};
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'not a superuser: name the log in agent.ini with `log`, if the agent is on its machine';
END $$;
-- The agent asks for these limits with each connection; here they hold for whoever uses the role.
ALTER ROLE {role} SET statement_timeout = '{statement_ms}ms';
ALTER ROLE {role} SET lock_timeout = '{lock_ms}ms';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE {role} SET default_transaction_read_only = on;
-- Its own questions are no load of yours: they are not logged and not counted. Only a superuser may say so.
DO $$ BEGIN
    ALTER ROLE {role} SET log_min_duration_statement = -1;
    ALTER ROLE {role} SET pg_stat_statements.track = 'none';
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'not a superuser: the questions of {role} may be logged and counted like others';
END $$;
-- What each statement costs. It also needs `shared_preload_libraries = 'pg_stat_statements'` and a restart; without it
-- everything else works.
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'no pg_stat_statements on this server: %', SQLERRM;
END $$;
-- A password, where the connection is not by a local socket and peer authentication:  \\password {role}
-- In agent.ini, on the database's own host (as the daemon's user of the same name):
--     [postgres]
--     dsn = host=/var/run/postgresql dbname=DATABASE user={role}
"""


def add_to(commands: Any) -> None:
    """The command and its actions."""
    postgres = commands.add_parser("postgres", help="database servers that the agent watches")
    actions = postgres.add_subparsers(metavar="ACTION", required=True)
    setup = actions.add_parser("setup", help="print the SQL that makes the agent's role, for psql")
    setup.add_argument("--role", type=_role, default="bitville", metavar="NAME", help="its name (default: bitville)")
    setup.add_argument("--json", action="store_true", help="print JSON, for programs")
    setup.set_defaults(run=_setup)
    check = actions.add_parser("check", help="what each [postgres NAME] of agent.ini shows to the agent")
    inis.add_options(check, "agent.ini")
    check.set_defaults(run=_check)


def _role(text: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text):
        raise argparse.ArgumentTypeError("small letters, digits and _ are wanted, at most 63")
    return text


def _setup(given: argparse.Namespace) -> int:
    sql = setup_sql(given.role)
    print(json.dumps({"role": given.role, "sql": sql}) if given.json else sql, end="\n" if given.json else "")
    return 0


def setup_sql(role: str) -> str:
    """What a superuser runs."""
    return SETUP.format(
        role=role,
        connections=limits.PG_CONNECTIONS,
        statement_ms=limits.PG_STATEMENT_MS,
        lock_ms=limits.PG_LOCK_MS,
    )


def _check(given: argparse.Namespace) -> int:
    servers = inis.agent(given).postgres
    if not servers:
        raise NotDone("agent.ini has no [postgres] section with a dsn")
    found = [look_at(server) for server in servers]
    if given.json:
        print(json.dumps(found))
    else:
        for told in found:
            print(f"{told['name']}: {told['error'] or 'reached'}")
            for name, value in told["shows"].items():
                print(f"  {name:<20} {value}")
            for line in told["missing"]:
                print(f"  missing              {line}")
    return 1 if any(told["error"] for told in found) else 0


def look_at(server: PostgresSection) -> dict[str, Any]:
    """One server, as an agent would see it."""
    from bitville_apm.agent.postgres.link import Link, TooSlow, Unreachable
    from bitville_apm.agent.postgres.looker import Looker
    from bitville_apm.agent.postgres.pace import Pace
    from bitville_apm.agent.postgres.statements import Texts
    from bitville_apm.agent.postgres.statistics import Statistics

    link = Link(server.dsn)
    looker = Looker(link, Pace(limits.PG_LOOK_S), Texts(), time.time)
    statistics = Statistics(link, Pace(limits.PG_STATISTICS_S), looker.texts, time.time)
    told: dict[str, Any] = {"name": server.name, "error": None, "shows": {}, "missing": []}
    try:
        facts = link.open()
        statistics.read()
        looker.look()
        seen = looker.look()
    except (Unreachable, TooSlow) as error:
        return {**told, "error": str(error) or "it takes too long to answer"}
    finally:
        link.close()
    place, extension = statistics.log, statistics.extension
    log = server.log or (place.path if place is not None else "")
    told["shows"] = {
        "version": f"{facts.version // 10000}.{facts.version % 10000}",
        "role": facts.role,
        "standby": facts.standby,
        "pooler between": facts.pooled,
        "connections": f"{seen.connections} of {facts.max_connections}",
        "active, waiting": f"{seen.tally.active}, {seen.tally.waiting}",
        "a look takes": f"{looker.took_ms:.1f} ms",
        "pg_stat_statements": extension.version if extension is not None else "-",
        "log": log or "-",
    }
    told["missing"] = list(statistics.missing.values())
    if not log:
        told["missing"].append("its log is not written to a file (logging_collector); name one with `log`")
    elif not facts.local and not server.log:
        told["missing"].append("its log is on another machine; an agent there can read it")
    elif "*" not in log and not os.access(log, os.R_OK):
        told["missing"].append(f"its log cannot be read by this user: {log}")
    return told
