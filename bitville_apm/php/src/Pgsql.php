<?php
namespace BitvilleApm;

/** Statements that an application sends with ext-pgsql and fetches the result of later, as MediaWiki does. */
final class Pgsql
{
    /** Connection, text and hrtime of the statement under way. */
    private static $under;

    /** Just before pg_send_query(). */
    public static function sending($connection, $statement): void
    {
        self::$under = [$connection, (string) $statement, hrtime(true)];
    }

    /** Just after pg_get_result(), with what it gave. */
    public static function got($connection, $result): void
    {
        $sql = Client::sql('pgsql');
        if (self::$under === null || self::$under[0] !== $connection || $sql === null) {
            return;
        }
        list(, $statement, $began) = self::$under;
        self::$under = null;
        $failed = $result === false || (string) pg_result_error($result) !== '';
        (new Connection([
            'driver' => 'pgsql',
            'host' => pg_host($connection),
            'port' => pg_port($connection),
            'database' => pg_dbname($connection),
            'user' => pg_parameter_status($connection, 'session_authorization'),
        ]))->note($sql, $statement, $began, $failed);
    }
}
