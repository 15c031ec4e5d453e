"""`new \\BitvilleApm\\Pdo(...)`: each statement in the record, and nothing else different from `\\PDO`."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest

from tests.php.peer import PHP, Site


def sql_of(site: Site, code: str, **settings: object) -> dict[str, Any]:
    """The `sql` of a whole record."""
    settings.setdefault("profiling_threshold_ms", 0)
    site.configure(None, **settings)
    with site.agent() as agent:
        done = site.run("$d = new BitvilleApm\\Pdo('sqlite::memory:');\n" + code)
        assert done.stderr == b""
        sql: dict[str, Any] = agent.one("end").get("sql", {})
    return sql


def test_every_way_to_run_a_statement(site: Site) -> None:
    """PHP-06: exec, query, prepare + execute and transactions are all noted, in order, with their position."""
    sql = sql_of(
        site,
        "$d->exec('create table t(a, b)');"
        "$d->beginTransaction();"
        "$s = $d->prepare('insert into t values(?, ?)'); $s->execute([1, 'x']);"
        "$s = $d->prepare('insert into t values(:a, :b)'); $s->bindValue(':a', 2); $b = 3; $s->bindParam(':b', $b);"
        "$s->execute();"
        "$d->commit();"
        "foreach ($d->query('select * from t where a = 1 and b = \\'joe\\'', PDO::FETCH_NUM) as $row) {}",
    )
    assert [query["sql"] for query in sql["queries"]] == [
        "create table t(a, b)",
        "BEGIN",
        "insert into t values(?)",
        "insert into t values(?)",
        "COMMIT",
        "select * from t where a = ? and b = ?",
    ]
    assert sql["n"] == 6
    assert [query.get("vars") for query in sql["queries"]] == [None, None, 2, 2, None, None]
    positions = [query["at"] for query in sql["queries"]]
    assert positions == sorted(positions)
    assert all(query["ms"] >= 0 and query["c"] == 0 for query in sql["queries"])
    assert sql["connections"] == [{"driver": "sqlite", "database": ":memory:"}]
    assert sum(query["ms"] for query in sql["queries"]) == pytest.approx(sql["ms"], abs=0.01)


@pytest.mark.parametrize("mode", ["ERRMODE_EXCEPTION", "ERRMODE_SILENT", "ERRMODE_WARNING"])
def test_failures(site: Site, mode: str) -> None:
    """PHP-06: failed statements are noted as failed, in each error mode."""
    sql = sql_of(
        site,
        f"error_reporting(0); $d->setAttribute(PDO::ATTR_ERRMODE, PDO::{mode});"
        "$d->exec('create table t(a integer unique)'); $d->exec('insert into t values(1)');"
        "$s = $d->prepare('insert into t values(?)');"
        "foreach (['query', 'exec', 'prepare'] as $how) { try { $d->$how('nonsense'); } catch (PDOException $e) {} }"
        "try { $s->execute([1]); } catch (PDOException $e) {}",
    )
    assert (sql["n"], sql["failed"]) == (6, 4)
    assert [query.get("failed", 0) for query in sql["queries"]] == [0, 0, 1, 1, 1, 1]


def test_values_never_leave(site: Site) -> None:
    """PHP-06, PHP-09: neither literals nor bound values are in any line."""
    site.configure(profiling_threshold_ms=0)
    with site.agent() as agent:
        site.run(
            "function f($d, $secret) { $d->query(\"select '$secret', 4242424242\");"
            "$s = $d->prepare('select ?'); $s->execute([$secret]); }"
            "f(new BitvilleApm\\Pdo('sqlite::memory:', '', 'geheim'), 'geheim');"
        )
        text = json.dumps(agent.lines)
        agent.one("end")
    assert "geheim" not in text
    assert "4242424242" not in text


def test_literals_go_whatever_the_settings_say(site: Site) -> None:
    """PHP-07, PHP-09: the first version's `sql_redact_sensitive` is read and keeps no literal: they always go."""
    sql = sql_of(site, "$d->query(\"select 'secret'\");", sql_redact_sensitive="off")
    assert sql["queries"][0]["sql"] == "select ?"


def test_a_failed_redaction_sends_nothing(site: Site) -> None:
    """PHP-09: where the statement cannot be read, the marker is sent instead."""
    shutil.copytree(PHP, site.root / "client")
    (site.root / "client" / "src" / "Statement.php").unlink()
    with site.agent() as agent:
        code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $d->query(\"select 'geheim'\");"
        done = site.run(code, prepend=site.root / "client" / "prepend.php")
        sql = agent.one("end")["sql"]
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [query["sql"] for query in sql["queries"]] == ["[SQL REDACTION FAILED]"]


def test_the_stack_is_the_applications(site: Site) -> None:
    """PHP-06: at most five frames of the application, innermost first, without arguments and without ours."""
    sql = sql_of(
        site,
        "class Repo { function find($d, $n) { return $n > 0 ? $this->find($d, $n - 1) : $d->query('select 1'); } }\n"
        "(new Repo)->find($d, 1);\n"
        "(new Repo)->find($d, 9);",
    )
    short, long = (query["stack"] for query in sql["queries"])
    path = f"{site.root}/app.php"
    assert short == [f"{path}:3 Repo->find", f"{path}:3 Repo->find", f"{path}:4"]
    assert long == [f"{path}:3 Repo->find"] * 5


def test_stack_settings(site: Site) -> None:
    """PHP-07: `sql_stack_trace`, `sql_stack_trace_limit`."""
    assert "stack" not in sql_of(site, "$d->exec('select 1');", sql_stack_trace="off")["queries"][0]
    code = "function f($d, $n) { $n ? f($d, $n - 1) : $d->exec('select 1'); } f($d, 9);"
    assert len(sql_of(site, code, sql_stack_trace_limit=2)["queries"][0]["stack"]) == 2


@pytest.mark.parametrize("setting", [{"sql_capture_enabled": "no"}, {"sql_capture_method": "none"}])
def test_capture_off(site: Site, setting: dict[str, object]) -> None:
    """PHP-07: `sql_capture_enabled`, `sql_capture_method` switch it off."""
    assert sql_of(site, "$d->exec('select 1');", **setting) == {}


def test_slow_ones_are_marked(site: Site) -> None:
    """PHP-06: 100 ms and more is slow."""
    sql = sql_of(
        site,
        "$d->sqliteCreateFunction('nap', function () { usleep(110000); return 1; }); $d->query('select nap()');"
        "$d->query('select 1');",
    )
    assert sql["slow"] == 1
    assert [query.get("slow", False) for query in sql["queries"]] == [True, False]


def test_all_are_counted(site: Site) -> None:
    """PHP-06: 500 in detail, all in the totals; repeated ones are added up, others only counted and `truncated` set."""
    sql = sql_of(site, "$s = $d->prepare('select ?'); for ($i = 0; $i < 2000; $i++) $s->execute([$i]);")
    assert sql["n"] == 2000
    assert sum(query.get("n", 1) for query in sql["queries"]) == 2000
    assert len(sql["queries"]) <= 500
    assert sql["truncated"] is (len(sql["queries"]) == 100)
    sql = sql_of(site, "for ($i = 0; $i < 700; $i++) $d->query('select ' . $i);")
    assert sql["n"] == 700
    assert sql["truncated"] is True


def test_detail_has_a_budget(site: Site) -> None:
    """PHP-06: where detail would cost too much of a request it is left out, then said, and comes back; counts never.

    With no minimum the budget is a share of the time that passed: used up by a loop, there again after a pause.
    """
    copy = site.root / "client"
    shutil.copytree(PHP, copy)
    limits = copy / "src" / "Limits.php"
    text = limits.read_text().replace("BUDGET_US = 2000", "BUDGET_US = 0").replace("STACK_US = 500", "STACK_US = 0")
    limits.write_text(text.replace("BUDGET_SHARE = 0.03", "BUDGET_SHARE = 0.003"))
    code = "for ($i = 0; $i < 400; $i++) $d->query('select ' . $i); usleep(800000); $d->query('select late');"
    site.configure(profiling_threshold_ms=0)
    with site.agent() as agent:
        site.run("$d = new BitvilleApm\\Pdo('sqlite::memory:');" + code, prepend=copy / "prepend.php")
        end = agent.one("end")
    assert end["sql"]["n"] == 401
    assert end["sql"]["truncated"] is True
    assert 1 <= len(end["sql"]["queries"]) < 400
    assert "sql" in end["sampled_down"]
    assert end["sql"]["queries"][-1]["sql"] == "select late"
    assert end["sql"]["queries"][-1]["stack"]


def test_stacks_have_a_budget_of_their_own(site: Site) -> None:
    """PHP-06: where stacks would cost too much the slow statements' are still there; a short record misses none."""
    copy = site.root / "client"
    shutil.copytree(PHP, copy)
    limits = copy / "src" / "Limits.php"
    limits.write_text(
        limits.read_text().replace("STACK_US = 500", "STACK_US = -1").replace("SHARE = 0.03", "SHARE = 0")
    )
    slow = "$d->sqliteCreateFunction('nap', function () { usleep(150000); return 1; }); $d->query('select nap()');"
    code = "$d = new BitvilleApm\\Pdo('sqlite::memory:'); $d->query('select 1'); $d->query('select 2');"
    site.configure(profiling_threshold_ms=0)
    with site.agent() as agent:
        site.run(code + slow, prepend=copy / "prepend.php")
        end = agent.one("end")
    assert ["stack" in query for query in end["sql"]["queries"]] == [True, False, True]
    assert end["sampled_down"] == ["sql_stack"]
    site.configure()
    with site.agent() as agent:
        site.run(code, prepend=copy / "prepend.php")
        assert "sampled_down" not in agent.one("end")


def test_quick_statements_have_no_stack_at_first(site: Site) -> None:
    """PHP-06: most requests are never kept whole: stacks begin after a fifth of the threshold, but for slower ones."""
    code = """
    $d = new BitvilleApm\\Pdo('sqlite::memory:');
    $d->sqliteCreateFunction('nap', function ($ms) { usleep($ms * 1000); return 1; });
    for ($i = 0; $i < 10; $i++) $d->query('select 1');
    $d->query('select nap(30)'); usleep(300000); $d->query('select 2'); usleep(1200000);
    """
    site.configure(profiling_threshold_ms=1500)
    with site.agent() as agent:
        site.run(code)
        end = agent.one("end")
    *early, napped, late = ["stack" in query for query in end["sql"]["queries"]]
    # One that had to wait for a CPU was not quick.
    assert sum(early) < 5
    assert napped
    assert late
    assert end["sampled_down"] == ["sql_stack"]


def test_short_records_add_up_by_shape(site: Site) -> None:
    """PHP-01: in a short record the statements of one shape are one entry."""
    sql = sql_of(site, "for ($i = 0; $i < 20; $i++) $d->query('select ' . $i);", profiling_threshold_ms=60_000)
    (query,) = sql["queries"]
    assert (query["sql"], query["n"], query["c"]) == ("select ?", 20, 0)
    assert query["ms"] == pytest.approx(sql["ms"], abs=0.02)


def test_connections_are_listed_once(site: Site) -> None:
    """PHP-06: each statement names its connection."""
    sql = sql_of(site, "$e = new BitvilleApm\\Pdo('sqlite:x.db'); $d->exec('select 1'); $e->exec('select 1');")
    assert [query["c"] for query in sql["queries"]] == [0, 1]


SAME = r"""
class Row { public $a; }
class Own extends PDOStatement { protected function __construct() {} }
$class = $argv[1];
$d = new $class('sqlite::memory:', null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_SILENT]);
$out = [];
$out[] = $d instanceof PDO;
$out[] = $d->exec('create table t(a, b)');
$out[] = $d->exec("insert into t values(1, 'x'), (2, null)");
$out[] = $d->query('select * from t', PDO::FETCH_CLASS, 'Row')->fetchAll();
$out[] = $d->query('select a from t', PDO::FETCH_COLUMN, 0)->fetchAll();
$out[] = $d->query('nonsense');
$out[] = $d->errorInfo();
$out[] = $d->exec('nonsense');
$out[] = $d->errorCode();
$out[] = $d->prepare('nonsense');
$out[] = $d->getAttribute(PDO::ATTR_STATEMENT_CLASS);
$s = $d->prepare('select :a as a, :b as b');
$x = 1;
$out[] = $s->bindParam(':a', $x, PDO::PARAM_INT);
$out[] = $s->bindValue(':b', 'y');
$x = 5;
$out[] = $s->execute();
$out[] = $s->fetchAll(PDO::FETCH_ASSOC);
$out[] = $s->queryString;
$out[] = $s instanceof PDOStatement;
$s->bindColumn(1, $col);
$s->execute(); $s->fetch(PDO::FETCH_BOUND); $out[] = $col;
$out[] = $d->prepare('select 1', [PDO::ATTR_STATEMENT_CLASS => ['Own']]) instanceof Own;
$d->setAttribute(PDO::ATTR_STATEMENT_CLASS, ['Own']);
$out[] = get_class($d->prepare('select 1'));
$out[] = get_class($d->query('select 1'));
$out[] = $d->inTransaction();
$out[] = $d->beginTransaction();
$out[] = $d->inTransaction();
$out[] = $d->exec('delete from t');
$out[] = $d->rollBack();
$out[] = $d->query('select count(*) from t')->fetchColumn();
$out[] = $d->lastInsertId();
$out[] = $d->quote("a'b");
$d->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
foreach (['query', 'exec', 'prepare'] as $how) {
    try { $d->$how('nonsense'); } catch (PDOException $e) {
        $out[] = [get_class($e), $e->getMessage(), $e->getCode(), $e->errorInfo];
    }
}
try { $d->commit(); } catch (PDOException $e) { $out[] = $e->getMessage(); }
try { new $class('nope:'); } catch (PDOException $e) { $out[] = $e->getMessage(); }
$p = new $class('sqlite::memory:', null, null, [PDO::ATTR_PERSISTENT => true]);
$s = $p->prepare('select 7'); $s->execute(); $out[] = $s->fetchColumn();
$out[] = error_get_last();
var_dump($out);
"""


@pytest.mark.parametrize("enabled", [0, 1])
def test_the_same_as_pdo(site: Site, enabled: int) -> None:
    """PHP-13: results, errors, attributes and classes are PDO's own, with profiling on and off."""
    site.configure(profiling_enabled=enabled)
    theirs = site.run(SAME, "PDO", client=False)
    ours = site.run(SAME, "BitvilleApm\\Pdo")
    assert theirs.returncode == 0, theirs.stdout
    # The numbers of objects (`object(Row)#4`) are how many there are, ours included.
    assert re.sub(rb"#\d+", b"#", ours.stdout) == re.sub(rb"#\d+", b"#", theirs.stdout)
    assert (ours.stderr, ours.returncode) == (theirs.stderr, theirs.returncode)


def test_no_pdo_extension(site: Site) -> None:
    """PHP-13: without ext-pdo everything else works."""
    with site.agent() as agent:
        done = site.run("echo class_exists('BitvilleApm\\Pdo') ? 'y' : 'n';", extensions=())
        agent.one("end")
    assert (done.stdout, done.stderr) == (b"n", b"")
