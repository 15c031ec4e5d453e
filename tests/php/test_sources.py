"""Statements seen without a line changed, or with one: mysqli, Laravel, Doctrine, Phalcon.

Against a real MariaDB, the real Laravel and the real Doctrine; Phalcon is played by what it promises to those who
extend it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.php.peer import MYSQL, Site, base_options
from tests.php.sources import connect, run, texts
from tests.tools import require

SHARE = Path("/usr/share/php")


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
