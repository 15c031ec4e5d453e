<?php
namespace BitvilleApm;

/**
 * What can be seen of a known application without a line of it changed: found out by the files beside its script.
 *
 * WordPress: hooks, handed over the way it offers to code that is loaded before it. MediaWiki on PostgreSQL: its calls
 * of `pg_*` are unqualified, so functions of those names in its namespace come first. Symfony, and Laravel on top of it:
 * a look for the route when the headers go out, while Symfony's request is still there to be found. Others: the number of statements from mysqlnd. libpq
 * takes the name of its sessions from the environment (PHP-12).
 */
final class Application
{
    const MEDIAWIKI = __DIR__ . '/mediawiki.php';

    /** WordPress' hooks: priority, how many of its arguments are wanted, and the function, if not of the same name. */
    const STATEMENTS = [
        'query' => [PHP_INT_MAX, 1],
        'log_query_custom_data' => [PHP_INT_MAX, 5, 'queried'],
    ];
    const ROUTES = [
        'wp' => [PHP_INT_MIN, 1],
        'current_screen' => [PHP_INT_MIN, 1],
        // Late: by then the plugins have said which actions there are.
        'admin_init' => [PHP_INT_MAX, 1],
        'rest_dispatch_request' => [PHP_INT_MIN, 3],
        'pre_unschedule_event' => [PHP_INT_MIN, 3],
        'xmlrpc_call' => [PHP_INT_MIN, 1],
    ];
    const CALLS = [
        // Late: what somebody answered in place of the other host is no call.
        'pre_http_request' => [PHP_INT_MAX, 3],
        'http_api_debug' => [PHP_INT_MIN, 5],
    ];

    /** WordPress' statements that are not in the request's log yet, as its hook was given them. */
    private static $queried = [];

    /** Statements that mysqlnd had sent for this process before; null where nobody asks. */
    private $before;

    /** @param bool $starting whether the application itself is still to come, and not a job of it */
    public function __construct(Config $config, string $script, string $id, bool $starting)
    {
        if ($config->applicationName && (extension_loaded('pgsql') || extension_loaded('pdo_pgsql'))) {
            self::nameSessions('bitville-' . $id);
        }
        // What came between two jobs is nobody's.
        self::$queried = [];
        if (!$starting && Client::rest()) {
            Pgsql::forget();
        }
        $statements = $config->sql && $config->sqlMethod === 'auto';
        $mysqli = $statements && function_exists('mysqli_query');
        $told = false;
        if ($starting && self::isWordPress($script)) {
            self::hook(self::ROUTES + self::CALLS + ($mysqli ? self::STATEMENTS : []));
            $told = true;
        } elseif ($starting && $statements && function_exists('pg_send_query')) {
            self::mediaWiki($script);
        }
        if ($starting && !$told && !Facts::commandLine()) {
            self::symfony($script);
        }
        if ($mysqli && !$told) {
            $this->before = self::sent();
        }
    }

    /** Unless the pool or the application names them itself. */
    private static function nameSessions(string $name): void
    {
        $now = function_exists('getenv') && function_exists('putenv') ? getenv('PGAPPNAME') : '';
        if ($now === false || strncmp($now, 'bitville-', 9) === 0) {
            putenv('PGAPPNAME=' . $name);
        }
    }

    private static function isWordPress(string $script): bool
    {
        $at = strpos($script, '/wp-admin/');
        $folder = $at === false ? dirname($script) : substr($script, 0, $at);
        return is_file($folder . '/wp-includes/plugin.php') && !isset($GLOBALS['wp_filter']);
    }

    /** As wp-includes/plugin.php expects it of those who come first. */
    private static function hook(array $hooks): void
    {
        foreach ($hooks as $hook => $how) {
            $GLOBALS['wp_filter'][$hook][$how[0]][] = [
                'function' => [self::class, isset($how[2]) ? $how[2] : $hook],
                'accepted_args' => $how[1],
            ];
        }
    }

    /** WordPress' `query`, a filter: before a statement. */
    public static function query($statement)
    {
        Client::quietly(static function () {
            if (Client::request() !== null && Client::rest()) {
                WordPressStatements::before();
            }
        });
        return $statement;
    }

    /** WordPress' `log_query_custom_data`, a filter: after each statement. It only keeps what it is given. */
    public static function queried($data, $statement = '', $seconds = 0.0, $callers = '', $at = 0.0)
    {
        self::$queried[] = [$statement, $seconds, $callers, $at];
        if (count(self::$queried) > Limits::SAVED_QUERIES) {
            Client::quietly(static function () {
                // Not the one that has just ended: whether it failed WordPress says after this.
                $last = array_pop(self::$queried);
                self::takeOver(Client::sql('wordpress'));
                self::$queried[] = $last;
            });
        }
        return $data;
    }

    /** What has been kept of statements goes into the request's log, if there is one. */
    public static function takeOver(?Sql $sql): void
    {
        $queried = self::$queried;
        self::$queried = [];
        if ($sql !== null && $queried !== []) {
            WordPressStatements::take($sql, $queried);
        }
        Pgsql::takeOver($sql);
    }

    /** Any of the hooks above: what a filter is given goes back as it came. */
    public static function __callStatic(string $hook, array $arguments)
    {
        Client::quietly(static function () use ($hook, $arguments) {
            if (Client::request() !== null && Client::rest()) {
                WordPress::hooked($hook, $arguments);
            }
        });
        return isset($arguments[0]) ? $arguments[0] : null;
    }

    private static function mediaWiki(string $script): void
    {
        if (is_file(dirname($script) . '/includes/WebStart.php') && Client::rest()) {
            include self::MEDIAWIKI;
        }
    }

    /** PHP holds one such callback: an application that has its own replaces ours. */
    private static function symfony(string $script): void
    {
        $kernel = '/vendor/symfony/http-kernel/HttpKernel.php';
        if (function_exists('header_register_callback') && is_file(dirname($script, 2) . $kernel)) {
            header_register_callback([self::class, 'answering']);
        }
    }

    /** The application's headers are about to go out. */
    public static function answering(): void
    {
        Client::quietly(static function () {
            $request = Client::request();
            if ($request !== null) {
                $request->endpoint()->lookForRoute(true);
            }
        });
    }

    /** Statements that mysqlnd sent in this request and no source has seen. */
    public function uncaptured(?Sql $sql): int
    {
        if ($this->before === null) {
            return 0;
        }
        return max(0, self::sent() - $this->before - ($sql === null ? 0 : $sql->ofDriver('mysql')));
    }

    /** Of this process, by mysqli and PDO alike. */
    private static function sent(): ?int
    {
        $counts = function_exists('mysqli_get_client_stats') ? mysqli_get_client_stats() : null;
        return isset($counts['com_query'], $counts['com_stmt_execute'])
            ? $counts['com_query'] + $counts['com_stmt_execute']
            : null;
    }
}
