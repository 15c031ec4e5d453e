<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Limits;
use BitvilleApm\Record;
use BitvilleApm\Stacks;
use PHPUnit\Framework\TestCase;

/** What is left out of a record that is too large, and in which order. */
final class RecordTest extends TestCase
{
    /** A record with so many stacks, statements and bytes of a form. */
    private static function record(int $stacks, int $statements, int $form): array
    {
        $lines = $queries = [];
        for ($i = 1; $i <= $stacks; $i++) {
            $lines[] = 'main;' . str_repeat('App\\Deep::name;', 10) . "f$i $i\n";
        }
        for ($i = 1; $i <= $statements; $i++) {
            $text = "s$i " . str_repeat('column, ', 50);
            $queries[] = ['sql' => $text, 'ms' => $i * 7 % 1000, 'c' => 0, 'stack' => ['f']];
        }
        return [
            't' => 'end', 'id' => 'x', 'ms' => 5.0,
            'request' => [
                'method' => 'POST', 'uri' => '/', 'post' => (object) ['a' => str_repeat('b', $form)],
                'query' => (object) [], 'headers' => (object) ['Accept' => 'x'], 'files' => (object) [],
            ],
            'response' => ['status' => 200, 'headers' => (object) ['X' => 'y']],
            'context' => ['k' => 'v'],
            'profile' => ['kind' => 'excimer', 'stacks' => implode('', $lines)],
            'sql' => ['n' => $statements, 'queries' => $queries, 'truncated' => false],
        ];
    }

    private static function bounded(array $record): array
    {
        $line = Record::bounded($record);
        self::assertSame("\n", substr($line, -1));
        self::assertLessThanOrEqual(Limits::RECORD_BYTES, strlen($line));
        return json_decode($line, true);
    }

    private static function samples(string $text): int
    {
        return (int) array_sum(array_map(static function (string $line): int {
            return (int) strrchr($line, ' ');
        }, explode("\n", $text)));
    }

    /** COMM-09: a record that fits is sent as it is. */
    public function testWhatFits(): void
    {
        $record = self::record(500, 200, 1000);
        self::assertSame(json_decode((string) json_encode($record), true), self::bounded($record));
    }

    /** COMM-09: first the profile is cut to its heaviest functions, with its total; all else stays. */
    public function testTheProfileGoesFirst(): void
    {
        $record = self::record(3000, 200, 1000);
        $sent = self::bounded($record);
        self::assertTrue($sent['truncated']);
        self::assertSame(Limits::PRUNED_FUNCTIONS + 1, substr_count($sent['profile']['stacks'], "\n"));
        self::assertStringContainsString(';f3000 3000', $sent['profile']['stacks']);
        self::assertSame(3000 * 3001 / 2, self::samples($sent['profile']['stacks']));
        self::assertCount(200, $sent['sql']['queries']);
        self::assertArrayNotHasKey('sql_truncated', $sent);
        self::assertSame(['k' => 'v'], $sent['context']);
    }

    /** COMM-09: XHProf's edges are cut likewise. */
    public function testEdges(): void
    {
        $record = self::record(0, 1, 10);
        $record['profile'] = ['kind' => 'xhprof', 'edges' => []];
        for ($i = 1; $i <= 3000; $i++) {
            $record['profile']['edges']['main()==>' . str_repeat('x', 60) . $i] = ['ct' => 1, 'wt' => $i];
        }
        $sent = self::bounded($record);
        self::assertTrue($sent['truncated']);
        self::assertLessThanOrEqual(Limits::PRUNED_FUNCTIONS + 1, count($sent['profile']['edges']));
        self::assertSame(3000, array_sum(array_column($sent['profile']['edges'], 'ct')));
        self::assertSame(3000 * 3001 / 2, array_sum(array_column($sent['profile']['edges'], 'wt')));
        self::assertArrayHasKey('main()==>' . str_repeat('x', 60) . '3000', $sent['profile']['edges']);
        self::assertArrayHasKey('main()==>' . Stacks::OTHER, $sent['profile']['edges']);
    }

    /** COMM-09, PHP-06: before a statement goes, the stacks of quick ones do, and that is said. */
    public function testQuickStacksGoBeforeStatements(): void
    {
        $record = self::record(10, 300, 1000);
        foreach ($record['sql']['queries'] as $i => $query) {
            $record['sql']['queries'][$i]['stack'] = array_fill(0, 5, str_repeat('s', 60));
            $record['sql']['queries'][$i]['ms'] = $i % 2 ? 1.0 : 50.0;
        }
        // Thirty in half a second are quick ones, too.
        $record['sql']['queries'][0]['n'] = 30;
        $record['sampled_down'] = ['profile'];
        $sent = self::bounded($record);
        self::assertCount(300, $sent['sql']['queries']);
        self::assertArrayNotHasKey('sql_truncated', $sent);
        self::assertSame(['profile', 'sql_stack'], $sent['sampled_down']);
        $with = array_keys(array_filter($sent['sql']['queries'], static function (array $query): bool {
            return isset($query['stack']);
        }));
        self::assertSame(range(2, 298, 2), $with);
    }

    /** COMM-09, PHP-06: of N+1 each statement stays, and each way that led to it once. */
    public function testAWayIsToldOnce(): void
    {
        $record = self::record(10, 300, 1000);
        foreach ($record['sql']['queries'] as $i => $query) {
            $way = array_fill(0, 5, str_repeat($i % 100 === 50 ? 'b' : 'a', 160));
            $record['sql']['queries'][$i] = ['sql' => 'select ?', 'ms' => $i < 7 ? 1.0 : 50.0, 'c' => 0, 'stack' => $way];
        }
        $sent = self::bounded($record);
        self::assertCount(300, $sent['sql']['queries']);
        self::assertArrayNotHasKey('sql_truncated', $sent);
        $with = array_keys(array_filter($sent['sql']['queries'], static function (array $query): bool {
            return isset($query['stack']);
        }));
        self::assertSame([7, 50], $with);
    }

    /** COMM-09: then the statements are cut to the slowest, in the order in which they ran; totals and form stay. */
    public function testThenTheStatements(): void
    {
        $record = self::record(100, 500, 1000);
        $sent = self::bounded($record);
        self::assertSame([true, true, 500], [$sent['sql_truncated'], $sent['sql']['truncated'], $sent['sql']['n']]);
        $kept = array_column($sent['sql']['queries'], 'ms');
        $all = array_column($record['sql']['queries'], 'ms');
        rsort($all);
        self::assertCount(Limits::PRUNED_STATEMENTS, $kept);
        self::assertSame($all[Limits::PRUNED_STATEMENTS - 1], min($kept));
        $order = array_map(static function (array $query): int {
            return (int) substr($query['sql'], 1);
        }, $sent['sql']['queries']);
        $sorted = $order;
        sort($sorted);
        self::assertSame($sorted, $order);
        self::assertSame(1000, strlen($sent['request']['post']['a']));
        self::assertSame(['f'], $sent['sql']['queries'][0]['stack']);
    }

    /** COMM-09: at last what the visitor sent goes, and the stacks of statements; the request itself stays. */
    public function testAtLastTheRest(): void
    {
        $sent = self::bounded(self::record(3000, 500, 190000));
        self::assertSame(['method' => 'POST', 'uri' => '/'], $sent['request']);
        self::assertSame(['status' => 200], $sent['response']);
        self::assertArrayNotHasKey('context', $sent);
        self::assertArrayNotHasKey('stack', $sent['sql']['queries'][0]);
        self::assertSame([true, true], [$sent['truncated'], $sent['sql_truncated']]);
    }

    public static function profiles(): iterable
    {
        yield 'stacks' => ['stacks'];
        yield 'edges' => ['edges'];
    }

    /**
     * COMM-09: the bound holds with every part as large as it may be, whatever is in its texts; some of each is left.
     *
     * @dataProvider profiles
     */
    public function testTheWorst(string $kind): void
    {
        $record = self::record(0, 0, 500000);
        $profile = $kind === 'stacks' ? '' : [];
        foreach (range(1, 5000) as $i) {
            if ($kind === 'stacks') {
                $profile .= 'main;' . str_repeat('App\\Deep\\Name::f"x";', 50) . 'f' . $i % 60 . "_$i 5\n";
            } else {
                $name = str_repeat('App\\Deep\\Name::"x"', 5);
                $profile[$name . $i % 70 . '==>' . $name . $i % 71] = ['ct' => 1, 'wt' => $i];
            }
        }
        foreach (range(1, 500) as $i) {
            $record['sql']['queries'][] = [
                'sql' => str_repeat("\"a\\\n\"", 3000), 'ms' => $i, 'stack' => array_fill(0, 5, str_repeat('p', 900)),
            ];
        }
        $record['profile'] = [$kind => $profile];
        $sent = self::bounded($record);
        self::assertNotEmpty($sent['profile'][$kind]);
        self::assertCount(Limits::PRUNED_STATEMENTS, $sent['sql']['queries']);
        self::assertGreaterThanOrEqual(Limits::LEAST_STATEMENT, strlen($sent['sql']['queries'][0]['sql']));
    }
}
