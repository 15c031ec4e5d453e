"""Statements seen without a line changed, or with one: mysqli, WordPress, MediaWiki, Laravel, Doctrine, Phalcon.

Against a real MariaDB, the real Laravel and the real Doctrine; WordPress and Phalcon are played by what they promise to
those who extend them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.php.peer import MYSQL, PGSQL, Fpm, Site, base_options
from tests.tools import require

SHARE = Path("/usr/share/php")


def run(site: Site, code: str, extensions: tuple[str, ...] = MYSQL, **settings: object) -> tuple[str, dict[str, Any]]:
    """What a script prints, and its whole record."""
    site.configure(None, **{"profiling_threshold_ms": 0, **settings})
    with site.agent() as agent:
        done = site.run(code, extensions=extensions)
        assert done.stderr == b"", done.stderr
        return done.stdout.decode(), agent.one("end")


def texts(end: dict[str, Any]) -> list[str]:
    return [query["sql"] for query in end["sql"]["queries"]]


def connect(path: str, named: str = "mysqli") -> str:
    return f"$d = new {named}(null, 'root', '', 'shop', null, '{path}');"


# --- mysqli ----------------------------------------------------------------------------------------------------

OURS = "BitvilleApm\\Mysqli"


def test_mysqli_with_one_line(site: Site, mysql: str) -> None:
    """PHP-06: `new \\BitvilleApm\\Mysqli`: queries and prepared statements with their values' number, and failures."""
    code = """
    mysqli_report(MYSQLI_REPORT_OFF);
    $d->query('select 1'); $d->real_query("select 'secret'"); $d->store_result();
    $s = $d->prepare('select ?, ?'); $s->bind_param('is', $i, $t); $i = 7; $t = 'secret'; $s->execute(); $s->close();
    $d->query('nonsense'); var_dump($d->prepare('more nonsense'), $d->errno);
    """
    out, end = run(site, connect(mysql, OURS) + code)
    assert out == "bool(false)\nint(1064)\n"
    sql = end["sql"]
    assert texts(end) == ["select ?", "select ?", "select ?, ?", "nonsense", "more nonsense"]
    assert [query.get("failed", 0) for query in sql["queries"]] == [0, 0, 0, 1, 1]
    assert sql["queries"][2]["vars"] == 2
    assert sql["connections"] == [{"driver": "mysql", "host": mysql, "database": "shop", "user": "root"}]
    assert "secret" not in json.dumps(end)


SAME_MYSQLI = """
function show($what) { echo json_encode($what), "\\n"; }
foreach ([MYSQLI_REPORT_OFF, MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT] as $mode) {
    mysqli_report($mode);
    $all = ['select 1 as a', 'nonsense', 'create table if not exists t (a int)', 'insert into t values (1), (2)'];
    foreach ($all as $sql) {
        try {
            $r = $d->query($sql);
            show([is_object($r) ? $r->fetch_all() : $r, $d->affected_rows, $d->errno, $d->error]);
        } catch (Throwable $e) { show([get_class($e), $e->getMessage(), $e->getCode()]); }
        try {
            $s = $d->prepare($sql);
            show([is_object($s) ? [$s->execute(), $s->errno, $s->field_count] : $s, $d->errno, $d->error]);
            if (is_object($s)) { $s->close(); }
        } catch (Throwable $e) { show([get_class($e), $e->getMessage(), $e->getCode()]); }
    }
    $s = $d->prepare('select ? + 1'); show($s->execute([41])); show($s->get_result()->fetch_row()); $s->close();
    show(mysqli_fetch_row(mysqli_query($d, 'select 5')));
}
$d->query('drop table t');
"""


@pytest.mark.parametrize("enabled", [0, 1])
def test_the_same_as_mysqli(site: Site, mysql: str, enabled: int) -> None:
    """PHP-13: results, errors and exceptions are mysqli's own, with profiling on and off."""
    site.configure(profiling_enabled=enabled)
    said = [
        site.run(connect(mysql, name) + SAME_MYSQLI, extensions=MYSQL, client=name == OURS) for name in ("mysqli", OURS)
    ]
    assert said[0].stdout.count(b"\n") == 22
    assert (said[0].stdout, said[0].stderr) == (said[1].stdout, said[1].stderr)


def test_mysqli_without_a_change_is_counted(site: Site, mysql: str) -> None:
    """PHP-06: statements that no source sees are counted all the same, and the record says that it has no more."""
    code = "for ($i = 0; $i < 5; $i++) mysqli_query($d, 'select 1');"
    code += "$s = $d->prepare('select ?'); $s->execute([1]); $s->execute([2]);"
    _, end = run(site, connect(mysql) + code)
    assert end["sql"]["n"] == 7
    assert end["sql"]["truncated"] is True
    assert end["sql"]["queries"] == []
    _, end = run(site, connect(mysql) + code, sql_capture_method="pdo")
    assert "sql" not in end


def test_what_is_seen_is_not_counted_again(site: Site, mysql: str) -> None:
    """PHP-06: of statements by our class and by mysqli's functions on it, each counts once."""
    _, end = run(
        site, connect(mysql, OURS) + "$d->query('select 1'); mysqli_query($d, 'select 2'); $d->query('select 3');"
    )
    assert end["sql"]["n"] == 3
    assert len(end["sql"]["queries"]) == 2


# --- WordPress ---------------------------------------------------------------------------------------------------

WORDPRESS = """
class WP_Hook { public $all = []; function add_filter($n, $f, $p, $a) { $this->all[$p][] = [$f, $a]; } }
$filters = isset($wp_filter) ? $wp_filter : [];
foreach ($filters as $name => $groups) {
    $hooks[$name] = new WP_Hook;
    foreach ($groups as $priority => $callbacks) { foreach ($callbacks as $cb) {
        $hooks[$name]->add_filter($name, $cb['function'], $priority, $cb['accepted_args']); } }
}
$wp_filter = isset($hooks) ? $hooks : [];
function apply_filters($name, ...$v) {
    foreach ($GLOBALS['wp_filter'][$name]->all ?? [] as $group) { foreach ($group as [$f, $n]) {
        $v[0] = call_user_func_array($f, array_slice($v, 0, $n)); } }
    return $v[0];
}
function remove_filter($name, $f, $priority) {
    $group = &$GLOBALS['wp_filter'][$name]->all[$priority];
    $group = array_filter($group, function ($it) use ($f) { return $it[0] !== $f; });
}
class wpdb {
    public $queries = []; public $dbhost = 'localhost'; public $dbname = 'shop'; public $dbuser = 'root'; public $dbh;
    function query($query) {
        $query = apply_filters('query', $query);
        $start = microtime(true);
        mysqli_report(MYSQLI_REPORT_OFF);
        $result = mysqli_query($this->dbh, $query);
        if (defined('SAVEQUERIES') && SAVEQUERIES) {
            $callers = 'main, Page->show, get';
            $data = apply_filters('log_query_custom_data', [], $query, microtime(true) - $start, $callers, $start);
            $this->queries[] = [$query, 0.1, $callers, $start, $data];
        }
        if (mysqli_error($this->dbh) !== '') {
            $GLOBALS['EZSQL_ERROR'][] = ['query' => $query, 'error_str' => mysqli_error($this->dbh)];
        }
        return $result;
    }
}
"""


def blog(site: Site, path: str, config: str = "") -> str:
    """A site that is recognised as one; what loads its hooks, configuration and database in WordPress' order."""
    includes = site.root / "wp-includes"
    includes.mkdir(exist_ok=True)
    (includes / "plugin.php").write_text("<?php " + WORDPRESS)
    return f"require 'wp-includes/plugin.php'; {config} $wpdb = new wpdb; {connect(path)} $wpdb->dbh = $d;"


def wordpress(site: Site, path: str, config: str, code: str, **settings: object) -> tuple[str, dict[str, Any]]:
    """A page of such a site."""
    return run(site, blog(site, path, config) + code, **settings)


def test_wordpress_without_a_change(site: Site, mysql: str) -> None:
    """PHP-06, PHP-13: each statement of $wpdb with time, failure and connection; its own list is kept short."""
    code = "for ($i = 0; $i < 120; $i++) $wpdb->query('select ' . $i); $wpdb->query('nonsense');"
    code += "echo count($wpdb->queries) <= 51 ? 'short' : 'long', count(array_filter($wp_filter['query']->all));"
    out, end = wordpress(site, mysql, "", code)
    assert out == "short0", "the filter before each statement is taken away once it has done its work"
    sql = end["sql"]
    assert (sql["n"], sql["failed"], sql["truncated"]) == (121, 1, False)
    assert texts(end)[-2:] == ["select ?", "nonsense"]
    assert sql["connections"] == [{"driver": "mysql", "host": "localhost", "database": "shop", "user": "root"}]
    assert sql["queries"][0]["stack"] == ["get", "Page->show", "main"]


def test_wordpress_says_late_what_failed(site: Site, mysql: str) -> None:
    """PHP-06: statements are taken over some fifty at once; each has its own failure and its own time."""
    code = """
    $wpdb->query('select a from later');
    for ($i = 1; $i < 150; $i++) $wpdb->query(in_array($i, [49, 50, 51, 101]) ? 'nonsense ' . $i : 'select 1');
    foreach (['create table later (a int)', 'select a from later', 'drop table later'] as $sql) $wpdb->query($sql);
    $wpdb->query('nonsense'); $wpdb->query('nonsense'); usleep(20000); $wpdb->query('select 2, 3');
    apply_filters('log_query_custom_data', [], ['no text'], 'no number', null, new stdClass);
    """
    _, end = wordpress(site, mysql, "", code)
    queries = end["sql"]["queries"]
    assert len(queries) == 156
    assert [i for i, query in enumerate(queries) if query.get("failed")] == [0, 49, 50, 51, 101, 153, 154]
    begins = [query["at"] for query in queries]
    assert begins == sorted(begins)
    assert 0 < begins[0] < begins[-2] + 20 <= begins[-1]


def test_what_wordpress_asked_between_jobs_is_no_jobs(site: Site, mysql: str) -> None:
    """PHP-06, PHP-10: a worker's job has its own statements, the last ones too, and nobody else's."""
    code = "bitville_apm_end(); for ($i = 0; $i < 3; $i++) $wpdb->query('select 1');"
    code += "foreach (['a', 'b, c'] as $j)"
    code += "{ bitville_apm_begin('job'); $wpdb->query('select ' . $j); bitville_apm_end(); }"
    site.configure(profiling_threshold_ms=0)
    with site.agent() as agent:
        site.run(blog(site, mysql) + "$wpdb->query('select 0');" + code, extensions=MYSQL)
        ends = agent.all("end", 3)
    assert [texts(end) for end in ends] == [["select ?"], ["select a"], ["select b, c"]]


def test_wordpress_in_a_pool(site: Site, mysql: str, tmp_path: Path) -> None:
    """PHP-06: the same in PHP-FPM with OPcache, where most of the client is loaded when it is needed first."""
    server = Fpm(tmp_path, extensions=MYSQL, children=1)
    try:
        site.configure(profiling_threshold_ms=0)
        load = blog(site, mysql)
        with site.agent() as agent:
            for _ in range(2):
                assert server.get(site, load + "echo count($wpdb->queries); $wpdb->query('select 1');").body == b"0"
            assert [texts(end) for end in agent.all("end", 2)] == [["select ?"]] * 2
    finally:
        server.stop()


def test_savequeries_of_wordpress_itself(site: Site, mysql: str) -> None:
    """PHP-13: who sets SAVEQUERIES has it and the whole list; switched off it stays off and all are counted."""
    code = "for ($i = 0; $i < 120; $i++) $wpdb->query('select 1'); echo count($wpdb->queries), (int) SAVEQUERIES;"
    out, end = wordpress(site, mysql, "define('SAVEQUERIES', true);", code)
    assert (out, end["sql"]["n"], len(end["sql"]["queries"])) == ("1201", 120, 120)
    out, end = wordpress(site, mysql, "define('SAVEQUERIES', false);", code)
    assert (out, end["sql"]["n"], end["sql"]["queries"]) == ("00", 120, [])
    code = "$wpdb->query('select 1'); echo (int) defined('SAVEQUERIES');"
    out, end = wordpress(site, mysql, "define('WP_CLI', true);", code)
    assert (out, end["sql"]["n"]) == ("0", 1)


def test_wordpress_is_left_alone(site: Site, mysql: str) -> None:
    """PHP-07: with capture off, or another source chosen, no statement is hooked and no constant set."""
    code = "$wpdb->query('select 1'); echo count($wp_filter['query'] ?? []), (int) defined('SAVEQUERIES');"
    for settings in ({"sql_capture_enabled": 0}, {"sql_capture_method": "none"}, {"sql_capture_method": "pdo"}):
        out, end = wordpress(site, mysql, "", code, **settings)
        assert out == "00"
        assert "sql" not in end
    (site.root / "wp-includes" / "plugin.php").unlink()
    out, _ = run(site, "echo (int) isset($wp_filter);")
    assert out == "0", "only WordPress has that variable"


# --- MediaWiki ---------------------------------------------------------------------------------------------------

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


# --- Frameworks --------------------------------------------------------------------------------------------------


def debian(name: str, package: str) -> str:
    path = SHARE / name / "autoload.php"
    if not path.exists():
        require(package)
    return f"require '{path}';"


LIBRARIES = ("pdo", "pdo_sqlite", "mbstring", "ctype", "tokenizer")


def test_laravel_with_one_line(site: Site) -> None:
    """PHP-06: `bitville_apm_attach_sql($db)`: each statement of Laravel's database layer, with its bindings' number."""
    code = debian("Illuminate/Database", "php-illuminate-database") + debian(
        "Illuminate/Events", "php-illuminate-events"
    )
    code += """
    $c = new Illuminate\\Database\\Capsule\\Manager;
    $c->addConnection(['driver' => 'sqlite', 'database' => ':memory:', 'prefix' => '']);
    $c->setEventDispatcher(new Illuminate\\Events\\Dispatcher(new Illuminate\\Container\\Container));
    for ($i = 0; $i < 2; $i++) var_dump(bitville_apm_attach_sql($c->getDatabaseManager()));
    $c->getConnection()->select('select ? as a', ['secret']);
    $c->getConnection()->statement("create table t as select 'secret' as b");
    """
    out, end = run(site, code, LIBRARIES)
    assert out == "bool(true)\n" * 2
    assert texts(end) == ["select ? as a", "create table t as select ? as b"]
    assert end["sql"]["queries"][0]["vars"] == 1
    assert end["sql"]["connections"] == [{"driver": "sqlite", "database": ":memory:"}]
    assert [query["stack"][0].split(" ")[0].rpartition(":")[0] for query in end["sql"]["queries"]] == [
        f"{site.root}/app.php"
    ] * 2
    assert "secret" not in json.dumps(end)


def test_doctrine_with_one_line(site: Site) -> None:
    """PHP-06: `bitville_apm_attach_sql($configuration)`: a middleware that sees each statement and its failure."""
    code = debian("Doctrine/DBAL", "php-doctrine-dbal")
    code += """
    $conf = new Doctrine\\DBAL\\Configuration();
    var_dump(bitville_apm_attach_sql($conf));
    $c = Doctrine\\DBAL\\DriverManager::getConnection(['driver' => 'pdo_sqlite', 'memory' => true], $conf);
    echo $c->fetchOne('select ?', [42]), $c->executeStatement('create table t(a int)'), $c->fetchOne("select 'x'");
    try { $c->executeQuery('nonsense'); } catch (Throwable $e) { echo get_class($e); }
    """
    out, end = run(site, code, LIBRARIES)
    assert out == "bool(true)\n420xDoctrine\\DBAL\\Exception\\SyntaxErrorException"
    assert texts(end) == ["select ?", "create table t(a int)", "select ?", "nonsense"]
    assert end["sql"]["failed"] == 1
    assert end["sql"]["connections"] == [{"driver": "sqlite"}]


PHALCON = """
class Events { public $f = []; function attach($n, $f) { $this->f[$n][] = $f; }
    function fire($n, $a) { foreach ($this->f[$n] ?? [] as $f) $f(null, $a); } }
class Adapter { public $events; public $sql; public $vars; function __construct() { $this->events = new Events; }
    function getEventsManager() { return $this->events; } function getSQLStatement() { return $this->sql; }
    function getSQLVariables() { return $this->vars; } function getType() { return 'mysql'; }
    function getDescriptor()
    { return ['host' => 'db1', 'dbname' => 'shop', 'username' => 'joe', 'password' => 'secret']; }
    function query($sql, $vars = [])
    { $this->sql = $sql; $this->vars = $vars; $this->events->fire('db:beforeQuery', $this);
        usleep(2000); $this->events->fire('db:afterQuery', $this); } }
class Di { public $db; function has($n) { return $n === 'db'; } function getShared($n) { return $this->db; } }
$di = new Di; $di->db = new Adapter;
var_dump(bitville_apm_attach_sql($di), bitville_apm_attach_sql(new stdClass), bitville_apm_attach_sql('x'));
$di->db->query("select 'secret'", ['secret', 2]);
"""


@pytest.mark.parametrize(("method", "seen"), [("auto", 1), ("phalcon", 1), ("both", 1), ("pdo", 0), ("none", 0)])
def test_phalcon_with_one_line(site: Site, method: str, seen: int) -> None:
    """PHP-06, PHP-07, PHP-10: Phalcon's events around a statement; `sql_capture_method` chooses among the sources."""
    out, end = run(site, PHALCON, ("pdo",), sql_capture_method=method)
    assert out == "bool(true)\nbool(false)\nbool(false)\n"
    assert end.get("sql", {}).get("n", 0) == seen
    if seen:
        (query,) = end["sql"]["queries"]
        assert (query["sql"], query["vars"], query["ms"] >= 2) == ("select ?", 2, True)
        assert end["sql"]["connections"] == [{"driver": "mysql", "host": "db1", "database": "shop", "user": "joe"}]
    assert "secret" not in json.dumps(end)


def test_any_other_source(site: Site) -> None:
    """PHP-06: `bitville_apm_sql()` notes what the client cannot see by itself."""
    code = "bitville_apm_sql(\"select 'secret'\", 12.5); bitville_apm_sql('x', 1, true); bitville_apm_sql([], 'x');"
    _, end = run(site, code, ())
    assert [(query["sql"], query["ms"], query.get("failed", 0)) for query in end["sql"]["queries"]] == [
        ("select ?", 12.5, 0),
        ("x", 1, 1),
    ]


# --- Correlation -------------------------------------------------------------------------------------------------


def test_sessions_of_postgres_are_named(site: Site) -> None:
    """PHP-12, PHP-07: `correlation_via_application_name`: libpq finds the request's id, each job its own."""
    if len(base_options(("pdo", "pdo_pgsql"))) == len(base_options(("pdo",))):
        require("php-pgsql")
    both = ("pdo", "pdo_pgsql")
    code = "echo getenv('PGAPPNAME'), ' ', bitville_apm_correlation_id(), ' ';"
    code += (
        "bitville_apm_begin('job'); echo getenv('PGAPPNAME'), ' ', bitville_apm_correlation_id(); bitville_apm_end();"
    )
    with site.agent():
        words = site.run(code, extensions=both).stdout.decode().split()
        assert words[0] == "bitville-" + words[1] != words[2] == "bitville-" + words[3]
        ask = "echo json_encode(getenv('PGAPPNAME'));"
        assert site.run(ask, extensions=both, env={"PGAPPNAME": "mine"}).stdout == b'"mine"'
        assert site.run(ask, extensions=("pdo",)).stdout == b"false"
        site.configure(correlation_via_application_name="off")
        assert site.run(ask, extensions=both).stdout == b"false"


def test_comments_are_opt_in(site: Site) -> None:
    """PHP-12, PHP-07: `correlation_via_sql_comment` puts the id in front of our classes' statements; else nothing."""
    code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $s = $d->prepare('select 1'); $s->execute();"
    code += "$d->query('select 2'); $d->exec('select 3'); echo $s->queryString, ' ', bitville_apm_correlation_id();"
    with_pdo = ("pdo", "pdo_sqlite")
    out, end = run(site, code, with_pdo, correlation_via_sql_comment="on")
    assert out.startswith(f"/* correlation:{end['id']} */ select 1 ")
    assert texts(end) == ["select ?"] * 3
    out, _ = run(site, code, with_pdo)
    assert out.startswith("select 1 ")
