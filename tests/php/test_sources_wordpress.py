"""Statements of WordPress without a line changed, against a real MariaDB; WordPress is played by what it promises to
those who extend it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.php.peer import MYSQL, Fpm, Site
from tests.php.sources import connect, run, texts

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
