<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Calls;
use BitvilleApm\Limits;
use BitvilleApm\Redactor;
use PHPUnit\Framework\TestCase;

/** Calls to other hosts. */
final class CallsTest extends TestCase
{
    /** @var Calls */
    private $calls;

    protected function setUp(): void
    {
        $this->calls = new Calls(new Redactor(), hrtime(true));
    }

    /** The section without what depends on the moment. */
    private function told(): array
    {
        return array_map(static function (array $call): array {
            self::assertSame('http', $call['kind']);
            self::assertGreaterThanOrEqual(0.0, $call['at']);
            return [$call['target'], $call['n'], $call['ms']];
        }, $this->calls->section());
    }

    /** PHP-16: of a URL only its host is kept; what has none is still counted. */
    public function testHosts(): void
    {
        $this->calls->to('https://joe:geheim@API.Example.org:8443/secret?token=geheim', 10.5);
        $this->calls->to('http://api.example.org/', 2.25);
        $this->calls->to('http://[::1]/x', 1);
        $this->calls->to('not a url', 3);
        $this->calls->to('http:///', 4);
        self::assertSame([['api.example.org', 2, 12.75], ['[::1]', 1, 1.0], ['~other', 2, 7.0]], $this->told());
        self::assertStringNotContainsString('geheim', (string) json_encode($this->calls->section()));
    }

    /** PHP-16: a time that makes no sense is none, and the call is counted; a name is redacted and bounded. */
    public function testWhatApplicationsSay(): void
    {
        foreach ([INF, NAN, -5.0] as $ms) {
            $this->calls->add('h', $ms);
        }
        $this->calls->add('token=geheim', 1.0);
        $this->calls->add(str_repeat('x', 500), 1.0);
        self::assertSame(
            [['h', 3, 0.0], ['token=[REDACTED]', 1, 1.0], [str_repeat('x', 100) . '...[truncated]', 1, 1.0]],
            $this->told()
        );
    }

    /** PHP-16: the first 100 hosts are named, all calls counted. */
    public function testManyHosts(): void
    {
        for ($i = 0; $i < 300; $i++) {
            $this->calls->add('h' . $i % 150, 1.0);
        }
        $told = $this->told();
        self::assertCount(Limits::CALLS + 1, $told);
        self::assertSame(300, array_sum(array_column($told, 1)));
        self::assertSame(['h0', 2, 2.0], $told[0]);
        self::assertSame(['~other', 100, 100.0], end($told));
    }
}
