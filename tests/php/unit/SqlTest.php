<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Budget;
use BitvilleApm\Config;
use BitvilleApm\Limits;
use BitvilleApm\Sql;
use PHPUnit\Framework\TestCase;

/** The statements of one request: kept, added up, counted. */
final class SqlTest extends TestCase
{
    private const MS = 1000000;

    /** Of a request so old that there is time for every detail. */
    private static function sql(array $settings = []): Sql
    {
        $began = hrtime(true) - 3600 * 1000 * self::MS;
        return new Sql(Config::of($settings), $began, 1e9, new Budget($began));
    }

    private static function add(Sql $sql, string $text, int $c = 0, int $ms = 1, bool $failed = false): void
    {
        $sql->add($text, hrtime(true), $ms * self::MS, $failed, $c, null, ['f']);
    }

    /** The statements of a section without what depends on the moment. */
    private static function queries(array $section): array
    {
        return array_map(static function (array $query): array {
            unset($query['at']);
            return $query;
        }, $section['queries']);
    }

    /** PHP-06: each statement without its literals, with time, connection, number of values, failure and stack. */
    public function testStatements(): void
    {
        $sql = self::sql();
        $mysql = $sql->connection(['driver' => 'mysql', 'host' => 'db1']);
        $pg = $sql->connection(['driver' => 'pgsql', 'host' => 'db2']);
        self::assertSame($mysql, $sql->connection(['driver' => 'mysql', 'host' => 'db1']));
        $sql->add('select "geheim", a from t', hrtime(true), 2 * self::MS, false, $mysql, 3, ['b', 'a']);
        $callers = 'main, Page->show, get';
        $sql->add('select "a", \'geheim\' from t', hrtime(true), 100 * self::MS, true, $pg, null, $callers);
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame([
            ['sql' => 'select ?, a from t', 'ms' => 2.0, 'c' => 0, 'vars' => 3, 'stack' => ['b', 'a']],
            [
                'sql' => 'select "a", ? from t', 'ms' => 100.0, 'c' => 1, 'failed' => 1, 'slow' => true,
                'stack' => ['get', 'Page->show', 'main'],
            ],
        ], self::queries($section));
        self::assertSame([2, 102.0, 1, 1, false], [
            $section['n'], $section['ms'], $section['failed'], $section['slow'], $section['truncated'],
        ]);
        self::assertSame(['db1', 'db2'], array_column($section['connections'], 'host'));
        self::assertSame([1, 1, 0], [$sql->ofDriver('mysql'), $sql->ofDriver('pgsql'), $sql->ofDriver('sqlite')]);
    }

    /** PHP-06: a connection of which nothing is known is an object in JSON, as all others are. */
    public function testAConnectionOfWhichNothingIsKnown(): void
    {
        foreach ([true, false] as $short) {
            $sql = self::sql();
            self::add($sql, 'select 1', $sql->connection([]));
            self::add($sql, 'select 2', $sql->connection(['driver' => 'mysql']));
            $told = json_encode($sql->section($short, PHP_INT_MAX)['connections']);
            self::assertSame('[{},{"driver":"mysql"}]', $told);
        }
    }

    /** PHP-01: in a short record the statements of one shape on one connection are one. */
    public function testShortSections(): void
    {
        $sql = self::sql();
        for ($i = 0; $i < 20; $i++) {
            self::add($sql, "select $i", $i % 2, 1, $i === 3);
        }
        self::assertSame([
            ['sql' => 'select ?', 'ms' => 10.0, 'n' => 10, 'c' => 0],
            ['sql' => 'select ?', 'ms' => 10.0, 'n' => 10, 'c' => 1, 'failed' => 1],
        ], $sql->section(true, PHP_INT_MAX)['queries']);
    }

    /** PHP-06: 500 one by one; a text that was among them is added to it, any other only counted, and that is said. */
    public function testManyStatements(): void
    {
        $sql = self::sql();
        for ($i = 0; $i < 500; $i++) {
            self::add($sql, 'select a' . $i % 250);
        }
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame([500, 500, false], [$section['n'], count($section['queries']), $section['truncated']]);
        self::add($sql, 'select a7', 0, 5, true);
        self::assertFalse($sql->section(false, PHP_INT_MAX)['truncated']);
        self::add($sql, 'select a7', 1);
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame([502, 506.0, true], [$section['n'], $section['ms'], $section['truncated']]);
        self::assertSame(501, array_sum(array_map(static function (array $query): int {
            return $query['n'] ?? 1;
        }, $section['queries'])));
    }

    /** PHP-06: the texts together are bounded, and each by itself; of a list of WordPress' callers the nearest stay. */
    public function testLongStatements(): void
    {
        $sql = self::sql();
        for ($i = 0; $i < 100; $i++) {
            $callers = str_repeat('caller, ', 1000) . 'nearest';
            $sql->add("select $i, " . str_repeat('a, ', 50000), hrtime(true), 1, false, 0, null, $callers);
        }
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame(100, $section['n']);
        self::assertCount(intdiv(Limits::QUERIES_BYTES, Limits::STATEMENT_BYTES), $section['queries']);
        self::assertTrue($section['truncated']);
        self::assertLessThanOrEqual(Limits::STATEMENT_BYTES, strlen($section['queries'][0]['sql']));
        self::assertSame(['nearest', 'caller', 'caller', 'caller', 'caller'], $section['queries'][0]['stack']);
    }

    /** PHP-07: `sql_stack_trace` and its limit. */
    public function testStacks(): void
    {
        $cases = [
            [['a', 'b'], ['sql_stack_trace_limit' => '2']],
            [null, ['sql_stack_trace' => 'off']],
            [null, ['sql_stack_trace_limit' => '0']],
        ];
        foreach ($cases as [$stack, $settings]) {
            $sql = self::sql($settings);
            $sql->add('select 1', hrtime(true), 1, false, 0, null, ['a', 'b', 'c']);
            self::assertSame($stack, $sql->section(false, PHP_INT_MAX)['queries'][0]['stack'] ?? null);
        }
    }

    /** PHP-06: statements seen by their number alone are in the count; without any there is no section. */
    public function testCounts(): void
    {
        $sql = self::sql();
        self::assertSame([null, null], [$sql->section(false, PHP_INT_MAX), $sql->totals()]);
        $sql->count(3);
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame([3, [], true], [$section['n'], $section['queries'], $section['truncated']]);
        self::assertSame(['n' => 3, 'ms' => 0.0, 'failed' => 0, 'slow' => 0], $sql->totals());
    }

    /** PHP-06: where there is no time left to read statements they are counted, and the record says so. */
    public function testNoTimeToRead(): void
    {
        $budget = new Budget(hrtime(true));
        $sql = new Sql(Config::of([]), hrtime(true), 1e9, $budget);
        self::add($sql, 'select 1');
        $section = $sql->section(false, -1);
        self::assertSame([1, [], true], [$section['n'], $section['queries'], $section['truncated']]);
        self::assertSame(['sql'], $budget->left());
    }

    /** PHP-06: where a Unix time is in the request; a clock that was set since does not move statements out of it. */
    public function testATimeInTheRequest(): void
    {
        $sql = new Sql(Config::of([]), 5000 * self::MS, 1e9, new Budget(0));
        self::assertSame(5250 * self::MS, $sql->hrtimeOf(1e9 + 0.25));
        self::assertSame(5000 * self::MS, $sql->hrtimeOf(1e9 - 7.0));
        self::assertSame(5000 * self::MS, $sql->hrtimeOf(2e9));
    }

    /** PHP-06, PHP-07: stacks of quick statements begin after a fifth of the threshold; without them, never. */
    public function testFromWhenOnStacksAre(): void
    {
        $from = static function (array $settings): int {
            return (new Sql(Config::of($settings), 1000 * self::MS, 1e9, new Budget(0)))->stacksFrom();
        };
        self::assertSame(1100 * self::MS, $from([]));
        self::assertSame(1000 * self::MS, $from(['profiling_threshold_ms' => '0']));
        self::assertSame(PHP_INT_MAX, $from(['sql_stack_trace' => 'off']));
    }

    /** PHP-06: a record lists so many connections; of statements on further ones it has the driver. */
    public function testManyConnections(): void
    {
        $sql = self::sql();
        for ($i = 0; $i < Limits::CONNECTIONS + 20; $i++) {
            $facts = ['driver' => $i % 2 ? 'pgsql' : 'mysql', 'database' => "customer$i"];
            self::add($sql, 'select 1', $sql->connection($facts));
            self::add($sql, 'select 1', $sql->connection($facts));
        }
        $section = $sql->section(false, PHP_INT_MAX);
        self::assertSame(2 * (Limits::CONNECTIONS + 20), $section['n']);
        self::assertSame(
            [['driver' => 'mysql'], ['driver' => 'pgsql']],
            array_slice($section['connections'], Limits::CONNECTIONS)
        );
        self::assertSame(['driver' => 'mysql', 'database' => 'customer0'], $section['connections'][0]);
        $last = array_column($section['queries'], 'c');
        self::assertSame([Limits::CONNECTIONS, Limits::CONNECTIONS, Limits::CONNECTIONS + 1], array_slice($last, 200, 3));
    }
}
