<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Config;
use BitvilleApm\Facts;
use BitvilleApm\Redactor;
use BitvilleApm\Server;
use PHPUnit\Framework\TestCase;

/** What is told of a request and of where it ran. PHPUnit puts the globals back after each test. */
final class FactsTest extends TestCase
{
    private static function facts(array $server, array $settings = []): Facts
    {
        $_SERVER = $server;
        return new Facts(Config::of($settings), new Redactor());
    }

    public static function addresses(): iterable
    {
        yield ['203.0.113.77', 'full', '203.0.113.77'];
        yield ['203.0.113.77', 'network', '203.0.113.0'];
        yield ['2001:db8:1:2:3::9', 'network', '2001:db8:1::'];
        yield ['::ffff:203.0.113.77', 'network', '::'];
        yield ['203.0.113.77', 'off', null];
        yield ['', 'full', null];
        yield [str_repeat('1', 61), 'full', null];
    }

    /**
     * PHP-09: `client_ip` = full, network (/24, /48), off.
     *
     * @dataProvider addresses
     */
    public function testAddresses(string $address, string $mode, ?string $sent): void
    {
        self::assertSame($sent, self::facts(['REMOTE_ADDR' => $address], ['client_ip' => $mode])->client());
    }

    public static function queues(): iterable
    {
        yield 'seconds' => ['t=1795231260.25', 250.0];
        yield 'milliseconds' => ['1795231260250', 250.0];
        yield 'microseconds' => ['t=1795231260250000', 250.0];
        yield 'the future' => ['t=1795231261.0', null];
        yield 'ten minutes' => ['t=1795230660.5', null];
        yield 'words' => ['t=now', null];
        yield 'none' => ['', null];
        yield 'more' => ["t=1795231260.25\n", null];
    }

    /**
     * PHP-18: the wait in front of PHP from X-Request-Start in any of its units; nothing of a clock that is wrong.
     *
     * @dataProvider queues
     */
    public function testQueues(string $header, ?float $ms): void
    {
        $facts = self::facts(['REQUEST_TIME_FLOAT' => 1795231260.5, 'HTTP_X_REQUEST_START' => $header]);
        self::assertSame($ms, $facts->queueMs());
    }

    /** PHP-02: the start is PHP's own, as a number or a text. */
    public function testStart(): void
    {
        self::assertSame(1795231260.5, self::facts(['REQUEST_TIME_FLOAT' => 1795231260.5])->startedAt());
        self::assertSame(1795231260.5, self::facts(['REQUEST_TIME_FLOAT' => '1795231260.5'])->startedAt());
        self::assertSame(0.0, self::facts([])->startedAt());
    }

    /** ADV-04: a traceparent is taken as it is, or not at all. */
    public function testTraceparents(): void
    {
        $trace = '00-' . str_repeat('ab', 16) . '-' . str_repeat('cd', 8) . '-01';
        self::assertSame($trace, self::facts(['HTTP_TRACEPARENT' => $trace])->traceparent());
        foreach ([strtoupper($trace), $trace . "\n", substr($trace, 1), ''] as $wrong) {
            self::assertNull(self::facts(['HTTP_TRACEPARENT' => $wrong])->traceparent());
        }
    }

    public static function commands(): iterable
    {
        yield [['artisan', 'queue:work', '--x'], 'artisan queue:work'];
        yield [['import.php', '4711'], 'import.php'];
        yield [['import.php', '--force'], 'import.php'];
        yield [['import.php', "a\n"], 'import.php'];
        yield [['import.php', 'joe@example.org'], 'import.php'];
        yield [['import.php', str_repeat('a', 65)], 'import.php'];
        yield [['import.php'], 'import.php'];
    }

    /**
     * PHP-15: a command line is named by its script and its command, never by a value.
     *
     * @dataProvider commands
     */
    public function testCommands(array $argv, string $uri): void
    {
        self::assertSame($uri, self::facts(['argv' => $argv, 'SCRIPT_NAME' => 'other.php'])->uri());
    }

    /** PHP-18: the release is the setting, else the environment, else the directory behind the document root. */
    public function testReleases(): void
    {
        $root = sys_get_temp_dir() . '/bv' . bin2hex(random_bytes(4));
        mkdir("$root/releases/42/public", 0700, true);
        mkdir("$root/plain", 0700);
        symlink('releases/42', "$root/current");
        $of = static function (string $folder, array $settings = []): ?string {
            return self::facts(['DOCUMENT_ROOT' => $folder], $settings)->release();
        };
        try {
            self::assertSame('42', $of("$root/current/public"));
            self::assertSame('42', $of("$root/current/public/"));
            self::assertSame('43', $of("$root/releases/43/public"), 'believed, though it is not there');
            self::assertNull($of("$root/plain"));
            self::assertNull($of("$root/nowhere"));
            self::assertNull($of(''));
            self::assertSame('v7', $of("$root/current/public", ['release' => 'v7']));
            self::assertSame(str_repeat('v', 100), $of('', ['release' => str_repeat('v', 300)]));
            putenv('BITVILLE_APM_RELEASE=v8');
            self::assertSame('v8', $of("$root/current/public"));
            self::assertSame('v7', $of('', ['release' => 'v7']));
        } finally {
            putenv('BITVILLE_APM_RELEASE');
            unlink("$root/current");
            $folders = ["$root/releases/42/public", "$root/releases/42", "$root/releases", "$root/plain", $root];
            array_map('rmdir', $folders);
        }
    }

    /** PHP-04: query, headers, form and uploads as they came, whatever the application makes of the globals. */
    public function testRequests(): void
    {
        $_GET = ['a' => '1'];
        $_POST = ['b' => ['password' => 'x', 'c' => '2']];
        $_FILES = [
            'one' => ['name' => 'a.txt', 'type' => 'text/plain', 'tmp_name' => '/t', 'error' => 0, 'size' => 3],
            'many' => ['name' => ['a', ['b', 'c']], 'tmp_name' => ['/t', ['/u', '/v']], 'size' => [1, [2, 3]]],
            'wrong' => 'x',
        ];
        $facts = self::facts([
            'HTTP_ACCEPT_LANGUAGE' => 'de', 'HTTP_COOKIE' => 'a=b', 'CONTENT_TYPE' => 'text/plain', 'HTTP_EMPTY' => '',
            'CONTENT_LENGTH' => '9', 'REMOTE_USER' => 'joe', 'PHP_AUTH_PW' => 'geheim',
        ]);
        $_GET = $_POST = $_FILES = $_SERVER = [];
        self::assertSame([
            'query' => ['a' => '1'],
            'headers' => [
                'Accept-Language' => 'de', 'Cookie' => '[REDACTED]',
                'Content-Type' => 'text/plain', 'Content-Length' => '9',
            ],
            'post' => ['b' => ['password' => '[REDACTED]', 'c' => '2']],
            'files' => [
                'one' => ['name' => 'a.txt', 'type' => 'text/plain', 'size' => 3],
                'many' => ['count' => 3, 'size' => 6],
            ],
        ], array_map('get_object_vars', $facts->request()));
    }

    /** PHP-07, PHP-09: what is captured of a request, by the settings. */
    public function testCaptureSettings(): void
    {
        $_GET = ['a' => '1'];
        self::assertSame([], self::facts([], ['request_metadata_enabled' => '0'])->request());
        $all = ['capture_get' => 'off', 'capture_post' => 'off', 'capture_headers' => 'off'];
        self::assertSame([], self::facts([], $all)->request());
        $names = self::facts([], ['capture_get' => 'names'] + $all)->request();
        self::assertSame(['a' => '[REDACTED]'], get_object_vars($names['query']));
    }

    /** PHP-13: PHP's sizes as numbers; a body larger than PHP takes is known to be unread. */
    public function testSizes(): void
    {
        $before = ini_get('memory_limit');
        try {
            $sizes = ['512M' => 536870912, '1g' => 1073741824, '600000k' => 614400000, '700000000' => 700000000];
            foreach ($sizes + ['-1' => -1] as $text => $bytes) {
                ini_set('memory_limit', (string) $text);
                self::assertSame($bytes, Facts::bytes('memory_limit'));
                self::assertTrue(Facts::hasRoom());
            }
        } finally {
            ini_set('memory_limit', (string) $before);
        }
        $most = Facts::bytes('post_max_size');
        self::assertFalse(self::facts(['CONTENT_LENGTH' => (string) $most])->refused());
        self::assertTrue(self::facts(['CONTENT_LENGTH' => (string) ($most + 1)])->refused());
    }

    /** PHP-13: an application may have put anything into the globals; what is no text is not there. */
    public function testStrangeGlobals(): void
    {
        $_GET = $_POST = $_FILES = null;
        $facts = self::facts([
            'REMOTE_ADDR' => ['x'], 'HTTP_USER_AGENT' => new \stdClass(), 'argv' => 'x', 'SCRIPT_NAME' => 'a',
        ]);
        self::assertSame([null, null, 'a'], [$facts->client(), $facts->agent(), $facts->uri()]);
        self::assertSame(['query', 'headers', 'post', 'files'], array_keys($facts->request()));
    }

    /** PHP-04: of where it ran what is known, and nothing empty. */
    public function testServer(): void
    {
        $facts = self::facts(['SERVER_SOFTWARE' => 'nginx', 'SERVER_ADDR' => '', 'SCRIPT_FILENAME' => '/a.php']);
        $told = Server::facts($facts);
        self::assertSame(['nginx', '/a.php'], [$told['software'], $told['script']]);
        self::assertSame([PHP_VERSION, PHP_SAPI, gethostname()], [$told['php'], $told['sapi'], $told['hostname']]);
        self::assertSame([], array_intersect_key($told, ['address' => 1, 'document_root' => 1, 'pool' => 1]));
    }
}
