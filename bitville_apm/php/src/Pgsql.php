<?php
namespace BitvilleApm;

/** Statements that an application sends with ext-pgsql and fetches the result of later, as MediaWiki does. */
final class Pgsql
{
    /** Connection, text and hrtime of the statement under way. */
    private static $under;

    /** The facts of the connection that was noted last, and as the record lists it. */
    private static $facts;
    private static $connection;

    /** Just before pg_send_query(). */
    public static function sending($connection, $statement): void
    {
        self::$under = [$connection, (string) $statement, hrtime(true)];
    }

    /** Whether a statement of this connection is under way. */
    public static function waits($connection): bool
    {
        return self::$under !== null && self::$under[0] === $connection;
    }

    /** Just after pg_get_result(), with what it gave, where a statement was under way. */
    public static function got($connection, $result): void
    {
        $ns = hrtime(true) - self::$under[2];
        $statement = self::$under[1];
        self::$under = null;
        $sql = Client::sql('pgsql');
        if ($sql === null) {
            return;
        }
        // Asked each time, of libpq's memory: to keep the connection would keep it open.
        $facts = [
            'driver' => 'pgsql',
            'host' => pg_host($connection),
            'port' => pg_port($connection),
            'database' => pg_dbname($connection),
            'user' => pg_parameter_status($connection, 'session_authorization'),
        ];
        if ($facts !== self::$facts) {
            self::$facts = $facts;
            self::$connection = new Connection($facts);
        }
        $failed = $result === false || (string) pg_result_error($result) !== '';
        self::$connection->took($sql, $statement, $ns, $failed);
    }
}
