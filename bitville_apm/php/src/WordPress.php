<?php
namespace BitvilleApm;

/**
 * The statements of WordPress, which it tells by itself where SAVEQUERIES is set.
 *
 * It is set at the first statement, when wp-config.php and the plugins that want it have had their turn, and never
 * under WP-CLI. WordPress' own list then is emptied from time to time, unless somebody else wanted it.
 */
final class WordPress
{
    private static $ours = false;
    private static $connection;

    /** Before a statement. Where SAVEQUERIES is off by somebody's wish, it is counted only. */
    public static function before(Sql $sql): void
    {
        if (!defined('SAVEQUERIES') && !(defined('WP_CLI') && constant('WP_CLI'))) {
            define('SAVEQUERIES', true);
            self::$ours = true;
        }
        $database = isset($GLOBALS['wpdb']) ? $GLOBALS['wpdb'] : null;
        if (!defined('SAVEQUERIES') || !constant('SAVEQUERIES')) {
            $sql->count(1);
        } elseif (self::$ours && isset($database->queries) && count($database->queries) > Limits::SAVED_QUERIES) {
            $database->queries = [];
        }
    }

    /**
     * After a statement that took $seconds.
     *
     * @param string $callers as WordPress has looked them up already, outermost first: `a, B->c, …`
     */
    public static function after(Sql $sql, string $statement, float $seconds, string $callers): void
    {
        $database = isset($GLOBALS['wpdb']) ? $GLOBALS['wpdb'] : null;
        if (self::$connection === null) {
            self::$connection = new Connection([
                'driver' => 'mysql',
                'host' => isset($database->dbhost) ? $database->dbhost : '',
                'database' => isset($database->dbname) ? $database->dbname : '',
                'user' => isset($database->dbuser) ? $database->dbuser : '',
            ]);
        }
        $handle = isset($database->dbh) ? $database->dbh : null;
        $failed = $handle instanceof \mysqli && mysqli_errno($handle) !== 0;
        $stack = array_reverse(explode(', ', $callers));
        self::$connection->took($sql, $statement, (int) ($seconds * 1e9), $failed, null, $stack);
    }
}
