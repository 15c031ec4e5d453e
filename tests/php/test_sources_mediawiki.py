"""Statements of MediaWiki without a line changed, against a real Postgres; of MediaWiki there are its calls."""

from __future__ import annotations

from tests.php.peer import PGSQL, Site
from tests.php.sources import run, texts

MEDIAWIKI = """<?php
namespace Wikimedia\\Rdbms;
function ask($conn, $sql) {
    while ($prior = pg_get_result($conn)) { pg_free_result($prior); }
    if (pg_send_query($conn, $sql) === false) { return 'not sent'; }
    $result = pg_get_result($conn);
    return pg_result_error($result) ? false : pg_fetch_result($result, 0, 0);
}
"""


def mediawiki(site: Site, postgres: str) -> str:
    """A site that is recognised as one, and what its scripts begin with: a connection `$c` and its database class."""
    (site.root / "includes").mkdir()
    (site.root / "includes" / "WebStart.php").touch()
    (site.root / "database.php").write_text(MEDIAWIKI)
    return f"$c = pg_connect('host={postgres} user=postgres dbname=postgres'); require 'database.php';"


def test_mediawiki_without_a_change(site: Site, postgres: str) -> None:
    """PHP-06, PHP-12: its calls of `pg_*` are seen, failures too; the session bears the request's id."""
    code = mediawiki(site, postgres)
    code += "function show($x) { var_dump(Wikimedia\\Rdbms\\ask($GLOBALS['c'], $x)); }"
    code += "show(\"select 'secret'\"); show('nonsense'); show('show application_name');"
    out, end = run(site, code, PGSQL)
    assert out == f'string(6) "secret"\nbool(false)\nstring(45) "bitville-{end["id"]}"\n'
    assert texts(end) == ["select ?", "nonsense", "show application_name"]
    assert end["sql"]["failed"] == 1
    (connection,) = end["sql"]["connections"]
    assert connection == {
        "driver": "pgsql",
        "host": postgres,
        "port": "5432",
        "database": "postgres",
        "user": "postgres",
    }
    (site.root / "includes" / "WebStart.php").unlink()
    out, end = run(site, code, PGSQL)
    assert out.startswith('string(6) "secret"\nbool(false)\n')
    assert "sql" not in end, "only MediaWiki's functions are ours"


def test_mediawiki_beside_a_second_connection(site: Site, postgres: str) -> None:
    """PHP-06: quick statements are taken over some fifty at once, each with its failure, connection and time."""
    code = mediawiki(site, postgres)
    code += f"$d = pg_connect('host={postgres} user=postgres dbname=template1');"
    code += """
    for ($i = 0; $i < 130; $i++) Wikimedia\\Rdbms\\ask($i % 10 ? $c : $d, $i % 50 === 3 ? 'nonsense' : 'select ' . $i);
    usleep(20000);
    Wikimedia\\Rdbms\\ask($c, 'select pg_sleep(0.03)');
    Wikimedia\\Rdbms\\ask($c, 'select 1, 2');
    """
    for threshold in (0, 60_000):
        site.configure(profiling_threshold_ms=threshold)
        with site.agent() as agent:
            site.run(code, extensions=PGSQL)
            sql = agent.one("end")["sql"]
        assert (sql["n"], sql["failed"]) == (132, 3)
        assert [connection["database"] for connection in sql["connections"]] == ["template1", "postgres"]
        if threshold == 0:
            queries = sql["queries"]
            assert [i for i, query in enumerate(queries) if query.get("failed")] == [3, 53, 103]
            assert [query["c"] for query in queries] == [*(int(i % 10 > 0) for i in range(130)), 1, 1]
            assert [query["at"] for query in queries] == sorted(query["at"] for query in queries)
            assert all("stack" in queries[i] for i in (0, 130))
        else:
            by = {(query["sql"], query["c"]): (query["n"], query.get("failed", 0)) for query in sql["queries"]}
            assert by == {
                ("select ?", 0): (13, 0),
                ("select ?", 1): (114, 0),
                ("nonsense", 1): (3, 3),
                ("select pg_sleep(?)", 1): (1, 0),
                ("select ?, ?", 1): (1, 0),
            }


def test_large_statements_of_mediawiki_are_not_held(site: Site, postgres: str) -> None:
    """PHP-13: of statements that wait to be taken over only what the log keeps is in memory."""
    code = mediawiki(site, postgres)
    code += """
    for ($i = 0; $i < 45; $i++) {
        echo Wikimedia\\Rdbms\\ask($c, "select length('" . str_repeat(chr(97 + $i % 26), 120000) . "')"), ' ';
    }
    """
    site.configure(profiling_threshold_ms=3_600_000)
    with site.agent() as agent:
        assert site.run(code, extensions=PGSQL).stdout == b"120000 " * 45
        end = agent.one("end")
    assert end["sql"]["n"] == 45
    assert end["memory"]["peak_bytes"] < 4_000_000


def test_what_mediawiki_asked_between_jobs_is_no_jobs(site: Site, postgres: str) -> None:
    """PHP-06, PHP-10: a worker's job has its own statements, the last ones too, and nobody else's."""
    code = mediawiki(site, postgres)
    code += """
    function ask($sql) { Wikimedia\\Rdbms\\ask($GLOBALS['c'], $sql); }
    ask('select 0'); bitville_apm_begin('a'); ask('select 1'); ask('select a'); bitville_apm_end(); ask('select 2, 3');
    bitville_apm_begin('b'); ask('select b'); bitville_apm_end();
    """
    site.configure()
    with site.agent() as agent:
        site.run(code, extensions=PGSQL)
        ends = agent.all("end", 3)
    assert [texts(end) for end in ends] == [["select ?"], ["select ?", "select a"], ["select b"]]
