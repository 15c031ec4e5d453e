<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Config;
use PHPUnit\Framework\TestCase;

/** profiling.ini: every spelling, every mistake. */
final class ConfigTest extends TestCase
{
    /** The settings of a file with this text, read as a request reads them. */
    private static function read(string $text): Config
    {
        $file = tempnam(sys_get_temp_dir(), 'ini');
        file_put_contents($file, $text);
        $before = getenv('BITVILLE_APM_INI');
        putenv("BITVILLE_APM_INI=$file");
        try {
            return Config::load();
        } finally {
            putenv($before === false ? 'BITVILLE_APM_INI' : "BITVILLE_APM_INI=$before");
            unlink($file);
        }
    }

    public static function spellings(): iterable
    {
        yield 'in full' => ["profiling_enabled = 1\nprofiling_threshold_ms = 250\ndaemon_socket_path = /s"];
        yield 'the first version' => ["enabled = on\nthreshold_ms = 250\nlistener_socket = /s"];
        yield 'its sections' => [
            "[profiling]\nenabled = yes\nthreshold_ms = 250\n[listener]\nlistener_socket_path = /s",
        ];
        yield 'a section of ours' => ["[bitville_apm]\nenabled = true\nthreshold_ms=250\nsocket_path=\"/s\""];
        yield 'a section of others' => [
            "; a note\n[xhprof]\nenabled = 0\nthreshold_ms = 9\n"
                . "[profiling]\nenabled = '1' ; a note\nthreshold_ms = 250\nsocket_path='/s'",
        ];
        yield 'in capitals' => ["ENABLED = ON\nProfiling_Threshold_MS = 250\nDAEMON_SOCKET_PATH = /s"];
        yield 'both' => [
            "enabled = 0\nprofiling_enabled = 1\n"
                . "threshold_ms = 1\nprofiling_threshold_ms = 250\nsocket_path = /x\ndaemon_socket_path=/s",
        ];
    }

    /**
     * PHP-07: the first version's spellings are accepted, with and without sections; the full names win.
     *
     * @dataProvider spellings
     */
    public function testSpellings(string $text): void
    {
        $read = self::read($text);
        self::assertSame([true, 250.0, '/s'], [$read->enabled, $read->thresholdMs, $read->socket]);
    }

    public static function mistakes(): iterable
    {
        $cases = [
            ['profiling_threshold_ms = soon', 'thresholdMs', 500.0],
            ['profiling_threshold_ms = -5', 'thresholdMs', 0],
            ['profiling_threshold_ms = 1e400', 'thresholdMs', 500.0],
            ['profiling_threshold_ms = NAN', 'thresholdMs', 500.0],
            ['listener_timeout_ms = 900', 'deadlineMs', 50],
            ['listener_timeout_ms = 0', 'deadlineMs', 1],
            ['profiler_period_ms = 0', 'periodMs', 1],
            ['profiler = rocket', 'profiler', 'auto'],
            ['capture_post = all', 'post', 'values'],
            ['client_ip = NETWORK', 'clientIp', 'network'],
            ['daemon_socket_path = relative/path', 'socket', '/var/run/bitville-apm/daemon.sock'],
            ['daemon_socket_path =', 'socket', '/var/run/bitville-apm/daemon.sock'],
            ['disk_buffer_path =', 'spool', '/var/lib/bitville-apm/buffer/php'],
            ['disk_buffer_path = /spool/', 'spool', '/spool'],
            ['disk_buffer_max_age = 99999999', 'spoolAgeS', 604800],
            ['disk_buffer_max_age = 1', 'spoolAgeS', 60],
            ['sql_stack_trace_limit = 5000', 'sqlStackFrames', 20],
            ['sql_stack_trace_limit = 0', 'sqlStack', false],
            ['sql_stack_trace_limit = -3', 'sqlStack', false],
            ['sql_capture_method = none', 'sql', false],
            ['memory_tracking = perhaps', 'memory', true],
            ['xhprof_one_in[] = 5', 'xhprofOneIn', 100],
            ['redact_keys = iban, kundennummer|a', 'redactKeys', ['iban', 'kundennummer', 'a']],
            ['unknown_key = 1', 'thresholdMs', 500.0],
        ];
        foreach ($cases as $case) {
            yield $case[0] => $case;
        }
    }

    /**
     * PHP-07: a value that makes no sense is the default, one out of bounds the nearest bound.
     *
     * @dataProvider mistakes
     */
    public function testMistakes(string $line, string $property, $value): void
    {
        $read = self::read("profiling_enabled = 1\n" . $line);
        self::assertTrue($read->enabled);
        self::assertSame($value, $read->$property);
    }

    public static function flags(): iterable
    {
        foreach (['1', 'on', 'ON', 'yes', 'true'] as $word) {
            yield $word => [$word, true];
        }
        foreach (['0', 'off', 'no', 'False', 'none', '', 'perhaps', '2'] as $word) {
            yield "`$word`" => [$word, false];
        }
    }

    /**
     * PHP-07: it is on only where it says so.
     *
     * @dataProvider flags
     */
    public function testOnOnlyWhereItSaysSo(string $word, bool $on): void
    {
        self::assertSame($on, Config::of(['profiling_enabled' => $word])->enabled);
    }

    /** PHP-07: every key has its property, and what it is without a file is the first of its choices. */
    public function testDefaults(): void
    {
        $defaults = get_object_vars(Config::of([]));
        self::assertSame(get_object_vars(new Config()), $defaults);
        self::assertFalse($defaults['enabled']);
        foreach (Config::KEYS as $key => $how) {
            self::assertArrayHasKey($how[0], $defaults, $key);
            if ($how[1] === 'choice') {
                self::assertSame($how[2], $defaults[$how[0]], $key);
            }
        }
    }

    public static function places(): iterable
    {
        $own = "project_name = shop\ndaemon_socket_path = /run/{project}.sock\n";
        yield 'of the file' => [$own, null, '/run/shop.sock', '/var/lib/bitville-apm/buffer/shop'];
        yield 'of the pool' => [$own, 'blog', '/run/blog.sock', '/var/lib/bitville-apm/buffer/blog'];
        yield 'a path' => [$own, '../../tmp/evil', '/run/php.sock', '/var/lib/bitville-apm/buffer/php'];
        yield 'a spool' => [$own . 'disk_buffer_path = /spool/{project}/', null, '/run/shop.sock', '/spool/shop'];
        // One socket for all projects is the section without a name, whatever the project is called.
        yield 'one for all' => [
            'project_name = shop', null, '/var/run/bitville-apm/daemon.sock', '/var/lib/bitville-apm/buffer/php',
        ];
    }

    /**
     * PHP-08: `{project}` is the pool's or the file's, in socket and spool; never a path.
     *
     * @dataProvider places
     */
    public function testPlaces(string $text, ?string $project, string $socket, string $spool): void
    {
        putenv($project === null ? 'BITVILLE_APM_PROJECT' : "BITVILLE_APM_PROJECT=$project");
        try {
            $read = self::read("profiling_enabled = 1\n" . $text);
        } finally {
            putenv('BITVILLE_APM_PROJECT');
        }
        self::assertSame([$socket, $spool], [$read->socket, $read->spool]);
    }

    /**
     * PHP-08: a constant of that name goes before the environment.
     *
     * @runInSeparateProcess
     * @preserveGlobalState disabled
     */
    public function testTheConstantOfAProject(): void
    {
        putenv('BITVILLE_APM_PROJECT=blog');
        define('BITVILLE_APM_PROJECT', 'wiki');
        self::assertSame('/run/wiki.sock', self::read('daemon_socket_path = /run/{project}.sock')->socket);
    }

    public static function methods(): iterable
    {
        yield 'auto' => ['auto', ['pdo', 'phalcon', 'wordpress']];
        yield 'pdo' => ['pdo', ['pdo']];
        yield 'phalcon' => ['phalcon', ['phalcon']];
        yield 'both' => ['both', ['pdo', 'phalcon']];
    }

    /**
     * PHP-07: `sql_capture_method` says which sources are taken.
     *
     * @dataProvider methods
     */
    public function testSourcesOfStatements(string $method, array $taken): void
    {
        $config = Config::of(['sql_capture_method' => $method]);
        self::assertSame($taken, array_values(array_filter(['pdo', 'phalcon', 'wordpress'], [$config, 'takes'])));
    }
}
