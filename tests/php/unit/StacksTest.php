<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Limits;
use BitvilleApm\Stacks;
use PHPUnit\Framework\TestCase;

/** Collapsed stacks and XHProf's edges: folded, and cut without losing time. */
final class StacksTest extends TestCase
{
    /** A text of stacks as a map; the total is its sum. */
    private static function parsed(string $text): array
    {
        $stacks = [];
        foreach (explode("\n", rtrim($text, "\n")) as $line) {
            $at = (int) strrpos($line, ' ');
            $stacks[substr($line, 0, $at)] = (int) substr($line, $at + 1);
        }
        return $stacks;
    }

    /** PHP-03: a log is added up by stack, weighed, without our own frames; what is no line of it is passed over. */
    public function testFolding(): void
    {
        $ours = dirname(__DIR__, 3) . '/bitville_apm/php/src/Client.php';
        $stacks = ['a;b' => 10];
        $log = ";a;b 3\nBitvilleApm\\X;BitvilleApm\\Y 2\na;b 1\nno number\na;BitvilleApm\\Pdo::query;c 9\n"
            . "$ours;d 1\n\n";
        Stacks::fold($stacks, $log, 2, '/srv/index.php');
        self::assertSame(['a;b' => 18, '/srv/index.php' => 4, 'no' => 0, 'a;c' => 18, 'd' => 2], $stacks);
        $stacks = [];
        Stacks::fold($stacks, "BitvilleApm\\X 1\n", 1, '');
        self::assertSame(['{main}' => 1], $stacks);
    }

    /** PHP-03: beyond so many distinct stacks others are added up, and no sample is lost. */
    public function testFoldingIsBounded(): void
    {
        $stacks = [];
        $lines = implode("\n", array_map(static function (int $i): string {
            return "main;f$i 1";
        }, range(1, Limits::STACKS + 500)));
        Stacks::fold($stacks, $lines, 1, '');
        Stacks::fold($stacks, "main;f1 5\nmain;new 7\n", 1, '');
        self::assertSame(6, $stacks['main;f1']);
        self::assertSame(507, $stacks[Stacks::OTHER]);
        self::assertCount(Limits::STACKS + 1, $stacks);
    }

    public static function rooms(): iterable
    {
        foreach ([31, 40, 100, 1000, 8192] as $bytes) {
            yield "$bytes bytes" => [$bytes];
        }
    }

    /**
     * PHP-01: a text of stacks keeps its bound and its total; the heaviest are in it.
     *
     * @dataProvider rooms
     */
    public function testTextIsBounded(int $bytes): void
    {
        $stacks = [Stacks::OTHER => 3];
        for ($i = 1; $i <= 300; $i++) {
            $stacks["main;f$i"] = $i;
        }
        $text = Stacks::text($stacks, $bytes);
        self::assertLessThanOrEqual($bytes, strlen($text));
        $found = self::parsed($text);
        self::assertSame(3 + 300 * 301 / 2, array_sum($found));
        self::assertSame($bytes > 60, isset($found['main;f300']));
    }

    /** PHP-01: what fits is whole, without a line for what is missing. */
    public function testTextThatFits(): void
    {
        self::assertSame("a;c 9\na;b 4\n", Stacks::text(['a;b' => 4, 'a;c' => 9], 8192));
        self::assertSame('', Stacks::text([], 8192));
    }

    /** COMM-09: a profile is cut to the stacks that end in its heaviest functions; the total stays. */
    public function testHeaviest(): void
    {
        $lines = array_map(static function (int $i): string {
            return "app.php;main;f$i $i";
        }, range(1, 200));
        $found = self::parsed(Stacks::heaviest(implode("\n", $lines), 50, 100000));
        self::assertCount(51, $found);
        self::assertArrayHasKey('app.php;main;f200', $found);
        self::assertArrayNotHasKey('app.php;main;f150', $found);
        self::assertSame(200 * 201 / 2, array_sum($found));
        // By what a function took itself in all its stacks: many light ones outweigh one that is heavier.
        $found = self::parsed(Stacks::heaviest("a;f 3\nb;f 3\nc;g 5\nd;h 4\n~other 1", 1, 1000));
        self::assertSame(['a;f' => 3, 'b;f' => 3, Stacks::OTHER => 10], $found);
    }

    /** COMM-09: of XHProf's edges those of the heaviest functions stay, all others are one; the main program's too. */
    public function testHeaviestEdges(): void
    {
        $entry = static function (int $wt): array {
            return ['ct' => 1, 'wt' => $wt];
        };
        $edges = [
            'a==>c' => $entry(5), 'b==>c' => $entry(4), 'c==>d' => $entry(3), 'd==>a' => $entry(2),
            'main()==>b' => $entry(30), 'main()==>a' => $entry(60), 'main()' => $entry(100),
        ];
        self::assertSame([
            'a==>~other' => $entry(5), 'b==>~other' => $entry(4), '~other==>a' => $entry(2),
            'main()==>b' => $entry(30), 'main()==>a' => $entry(60), 'main()' => $entry(100),
        ], Stacks::heaviestEdges($edges, 3));
        self::assertSame(
            ['main()==>~other' => ['ct' => 2, 'wt' => 90], 'main()' => $entry(100)],
            Stacks::heaviestEdges(array_slice($edges, 4), 1)
        );
        self::assertSame(
            ['main()==>~other' => $entry(30), 'main()==>a' => $entry(60)],
            Stacks::heaviestEdges(array_slice($edges, 4, 2), 1)
        );
        self::assertSame($edges, Stacks::heaviestEdges($edges, 50));
    }
}
