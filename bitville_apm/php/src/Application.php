<?php
namespace BitvilleApm;

/**
 * What can be seen of a known application without a line of it changed: found out by the files beside its script.
 *
 * WordPress: two filters, handed over the way it offers to code that is loaded before it. MediaWiki on PostgreSQL:
 * its calls of `pg_*` are unqualified, so functions of those names in its namespace come first. Others: the number of
 * statements from mysqlnd. libpq takes the name of its sessions from the environment (PHP-12).
 */
final class Application
{
    const MEDIAWIKI = __DIR__ . '/mediawiki.php';

    /** Statements that mysqlnd had sent for this process before; null where nobody asks. */
    private $before;

    /** @param bool $starting whether the application itself is still to come, and not a job of it */
    public function __construct(Config $config, string $script, string $id, bool $starting)
    {
        if ($config->applicationName && (extension_loaded('pgsql') || extension_loaded('pdo_pgsql'))) {
            self::nameSessions('bitville-' . $id);
        }
        if (!$config->sql || $config->sqlMethod !== 'auto') {
            return;
        }
        $mysqli = function_exists('mysqli_query');
        $told = $starting && $mysqli && self::wordPress($script);
        if ($starting && !$told && function_exists('pg_send_query')) {
            self::mediaWiki($script);
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

    private static function wordPress(string $script): bool
    {
        $at = strpos($script, '/wp-admin/');
        $folder = $at === false ? dirname($script) : substr($script, 0, $at);
        if (!is_file($folder . '/wp-includes/plugin.php') || isset($GLOBALS['wp_filter'])) {
            return false;
        }
        // As wp-includes/plugin.php expects it of those who come first.
        foreach (['query' => 1, 'log_query_custom_data' => 4] as $hook => $arguments) {
            $GLOBALS['wp_filter'][$hook][PHP_INT_MAX][] = [
                'function' => [self::class, $hook],
                'accepted_args' => $arguments,
            ];
        }
        return true;
    }

    private static function mediaWiki(string $script): void
    {
        if (is_file(dirname($script) . '/includes/WebStart.php')) {
            include self::MEDIAWIKI;
        }
    }

    /** WordPress' filter `query`: before each statement. */
    public static function query($statement)
    {
        Client::quietly(static function () {
            $sql = Client::sql('wordpress');
            if ($sql !== null) {
                WordPress::before($sql);
            }
        });
        return $statement;
    }

    /** WordPress' filter `log_query_custom_data`: after each statement, with its time. */
    public static function log_query_custom_data($data, $statement = '', $seconds = 0.0, $callers = '')
    {
        Client::quietly(static function () use ($statement, $seconds, $callers) {
            $sql = Client::sql('wordpress');
            if ($sql !== null) {
                WordPress::after($sql, (string) $statement, (float) $seconds, (string) $callers);
            }
        });
        return $data;
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
