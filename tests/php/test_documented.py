"""Each row of what docs/php.md says is captured is run by a test; those that nothing else runs are here."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.php.peer import MYSQL, PGSQL, Site

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "php.md"

PROVED = {
    "time, CPU, waiting for a CPU, memory": [
        "test_lines.test_wall_time_without_the_clients_own",
        "test_lines.test_cpu_is_that_of_the_request",
    ],
    "functions": [
        "test_profile.test_stacks",
        "test_applications.test_functions_of_wordpress",
        "test_profile.test_the_deep_mode",
    ],
    "statements": [
        "test_applications.test_wordpress",
        "test_applications.test_mediawiki",
        "test_sources.test_mysqli_without_a_change_is_counted",
        "test_documented.test_pdo_for_mysql_is_counted",
        "test_pdo.test_every_way_to_run_a_statement",
        "test_sources.test_mysqli_with_one_line",
        "test_sources.test_laravel_with_one_line",
        "test_sources.test_doctrine_with_one_line",
        "test_sources.test_phalcon_with_one_line",
        "test_sources.test_any_other_source",
        "test_documented.test_what_is_called_directly_is_not_seen",
    ],
    "names of endpoints": [
        "test_routes.test_wordpress",
        "test_routes.test_mediawiki",
        "test_routes.test_laravel",
        "test_routes.test_symfony",
        "test_routes.test_phalcon",
        "test_routes.test_a_name_by_hand_wins",
    ],
    "calls to other hosts": [
        "test_routes.test_calls_of_wordpress",
        "test_calls.test_guzzle_with_one_line",
        "test_calls.test_laravel_with_one_line",
        "test_calls.test_symfony_with_one_line",
        "test_documented.test_what_is_called_directly_is_not_seen",
    ],
    "sessions of Postgres by the request's id": [
        "test_applications.test_mediawiki",
        "test_sources.test_sessions_of_postgres_are_named",
        "test_sources.test_comments_are_opt_in",
    ],
    "fatal errors, out of memory and time-outs too": ["test_fatal.test_fatal_errors"],
    "jobs of a worker that runs for days": ["test_lines.test_jobs_of_a_worker"],
}


def test_every_row_is_run() -> None:
    """PHP-06: the document's rows are these, and the tests are there."""
    table = DOCUMENT.read_text().split("## What is captured, and what it takes")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows[0] == ""
    assert rows[1:] == list(PROVED)
    for names in PROVED.values():
        for name in names:
            module, _, function = name.partition(".")
            body = ast.parse((HERE / f"{module}.py").read_text()).body
            assert function in {node.name for node in body if isinstance(node, ast.FunctionDef)}, name


def test_pdo_for_mysql_is_counted(site: Site, mysql: str) -> None:
    """PHP-06: statements of a plain PDO for MySQL are counted without a change, and the record says so."""
    site.configure(profiling_threshold_ms=0)
    code = f"$d = new PDO('mysql:unix_socket={mysql};dbname=shop', 'root', '');"
    code += "foreach ([1, 2] as $i) $d->query('select 1');"
    with site.agent() as agent:
        assert site.run(code, extensions=MYSQL).stderr == b""
        sql = agent.one("end")["sql"]
    assert (sql["n"], sql["queries"], sql["truncated"]) == (2, [], True)


def test_what_is_called_directly_is_not_seen(site: Site, postgres: str) -> None:
    """PHP-06, PHP-16: nothing is told of pg_query(), SQLite3 and a stream to another host, and nothing is made up."""
    site.configure(profiling_threshold_ms=0)
    code = f"$c = pg_connect('host={postgres} user=postgres dbname=postgres');"
    code += "echo pg_fetch_result(pg_query($c, 'select 5'), 0);"
    code += "$d = new SQLite3(':memory:'); echo $d->querySingle('select 6');"
    code += "@file_get_contents('http://127.0.0.1:9/');"
    with site.agent() as agent:
        assert site.run(code, extensions=(*PGSQL, "sqlite3")).stdout == b"56"
        end = agent.one("end")
    assert "sql" not in end
    assert "calls" not in end
