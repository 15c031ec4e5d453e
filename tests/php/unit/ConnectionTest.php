<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Budget;
use BitvilleApm\Config;
use BitvilleApm\Connection;
use BitvilleApm\Sql;
use PHPUnit\Framework\TestCase;

/** What is told of a connection to a database. */
final class ConnectionTest extends TestCase
{
    public static function names(): iterable
    {
        yield 'mysql' => [
            'mysql:host=db1;port=3307;dbname=shop;charset=utf8', 'joe',
            ['driver' => 'mysql', 'host' => 'db1', 'port' => '3307', 'database' => 'shop', 'user' => 'joe'],
        ];
        yield 'mysql, a socket' => [
            'mysql:unix_socket=/run/my.sock;dbname=shop', null,
            ['driver' => 'mysql', 'host' => '/run/my.sock', 'database' => 'shop'],
        ];
        yield 'pgsql' => [
            'pgsql:host=db2 port=5432 dbname=shop user=ann password=geheim', null,
            ['driver' => 'pgsql', 'host' => 'db2', 'port' => '5432', 'database' => 'shop', 'user' => 'ann'],
        ];
        yield 'pgsql, both users' => [
            "pgsql:HOST='db2';user=ann;password=geheim", 'joe', ['driver' => 'pgsql', 'host' => 'db2', 'user' => 'joe'],
        ];
        yield 'sqlite' => ['sqlite:/srv/x.db', '', ['driver' => 'sqlite', 'database' => '/srv/x.db']];
        yield 'an alias' => ['alias', null, ['driver' => '']];
        yield 'empty' => ['pgsql:host=;dbname=', '', ['driver' => 'pgsql']];
    }

    /**
     * PHP-06: driver, host, port, database and user of a DSN; never its password.
     *
     * @dataProvider names
     */
    public function testNames(string $dsn, ?string $user, array $facts): void
    {
        self::assertSame($facts, Connection::facts($dsn, $user));
    }

    /** PHP-06: facts of any kind are taken as texts, bounded, and without those that say nothing. */
    public function testFactsOfAnyKind(): void
    {
        $sql = new Sql(Config::of([]), hrtime(true), 1e9, new Budget(hrtime(true)));
        $facts = ['driver' => 'pgsql', 'port' => 5432, 'host' => null, 'user' => ['x'], 'a' => ''];
        $facts['database'] = str_repeat('d', 5000);
        (new Connection($facts))->took($sql, 'select 1', 1000, false);
        (new Connection($facts))->took($sql, 'select 2', 1000, false);
        self::assertSame(
            [['driver' => 'pgsql', 'port' => '5432', 'database' => str_repeat('d', 1000)]],
            $sql->section(false, PHP_INT_MAX)['connections']
        );
    }
}
