<?php
namespace BitvilleApm;

/**
 * The statements of WordPress, which it tells where SAVEQUERIES is set.
 *
 * That is set at the first statement, when wp-config.php and the plugins that want it have had their turn, and never
 * under WP-CLI. After each statement Application only keeps what its hook was given; here that is taken apart, some
 * fifty at once: what runs between two parts of a page finds the processor's caches full of the page. WordPress' own
 * list is emptied at the same time, unless somebody else wanted it.
 */
final class WordPressStatements
{
    private static $ours = false;
    private static $connection;

    /** How many of WordPress' list of errors have been looked at. */
    private static $errors = 0;

    /** Before a statement. Where SAVEQUERIES is off by somebody's wish, it is counted only. */
    public static function before(): void
    {
        $sql = Client::sql('wordpress');
        if ($sql === null) {
            return;
        }
        if (!defined('SAVEQUERIES') && !(defined('WP_CLI') && constant('WP_CLI'))) {
            define('SAVEQUERIES', true);
            self::$ours = true;
        }
        if (!defined('SAVEQUERIES') || !constant('SAVEQUERIES')) {
            $sql->count(1);
        } elseif (function_exists('remove_filter')) {
            // It has done what it was there for: from here on the other hook sees all.
            remove_filter('query', [Application::class, 'query'], PHP_INT_MAX);
        }
    }

    /**
     * Statements that have ended since the last time.
     *
     * @param array $queried of each its text, the seconds it took, who led to it as WordPress has looked that up
     *   (outermost first: `a, B->c, …`), and the Unix time when it began
     */
    public static function take(Sql $sql, array $queried): void
    {
        $began = hrtime(true);
        $database = isset($GLOBALS['wpdb']) ? $GLOBALS['wpdb'] : null;
        if (self::$ours && isset($database->queries)) {
            $database->queries = [];
        }
        if (self::$connection === null) {
            self::$connection = new Connection([
                'driver' => 'mysql',
                'host' => isset($database->dbhost) ? $database->dbhost : '',
                'database' => isset($database->dbname) ? $database->dbname : '',
                'user' => isset($database->dbuser) ? $database->dbuser : '',
            ]);
        }
        $failed = self::failed();
        foreach ($queried as $given) {
            [$text, $seconds, $callers, $at] = $given;
            // A plugin may call what WordPress calls, with anything.
            if (is_string($text) && is_numeric($seconds) && is_string($callers) && is_numeric($at)) {
                $fails = isset($failed[$text]) && $failed[$text]-- > 0;
                $ns = (int) ($seconds * 1e9);
                self::$connection->keep($sql, $text, $sql->hrtimeOf((float) $at) + $ns, $ns, $fails, $callers);
            }
        }
        $sql->spend(hrtime(true) - $began);
    }

    /** How often each text failed since the last time: WordPress lists its errors, also those it does not show. */
    private static function failed(): array
    {
        $errors = isset($GLOBALS['EZSQL_ERROR']) && is_array($GLOBALS['EZSQL_ERROR']) ? $GLOBALS['EZSQL_ERROR'] : [];
        $texts = [];
        foreach (array_slice($errors, self::$errors) as $error) {
            if (isset($error['query']) && is_string($error['query'])) {
                $texts[] = $error['query'];
            }
        }
        self::$errors = count($errors);
        return array_count_values($texts);
    }
}
