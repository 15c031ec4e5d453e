<?php
namespace BitvilleApm;

/**
 * Statements that an application sends with ext-pgsql and fetches the result of later, as MediaWiki does.
 *
 * Of quick ones early in a request, which need no stack, only what cannot be asked later is kept at once; some fifty
 * are taken into the request's log together.
 */
final class Pgsql
{
    /** Connection, text and hrtime of the statement under way; null where there is none. */
    public static $under;

    /** The connection that was noted last: a weak reference, or the number of a resource. */
    private static $last;

    /** The same as the record lists it. */
    private static $connection;

    /** hrtime from when on each statement is noted at once. */
    private static $untilNs = 0;

    /** Statements of that connection that are not in the log yet: text, hrtime of the end, ns, whether it failed. */
    private static $ended = [];

    /** Just after pg_get_result() with what it gave, while a statement is under way. */
    public static function got($connection, $result): void
    {
        $now = hrtime(true);
        if (self::$under[0] !== $connection) {
            return;
        }
        // No more of it than the log keeps: fifty pages that are being saved may be more than there is memory for.
        $text = substr((string) self::$under[1], 0, Limits::STATEMENT_BYTES);
        $ns = $now - self::$under[2];
        self::$under = null;
        $failed = $result === false || (string) pg_result_error($result) !== '';
        $ended = [$text, $now, $ns, $failed];
        $early = $now < self::$untilNs && $ns < Limits::STACK_MS * 1000000 && self::isLast($connection);
        if ($early) {
            self::$ended[] = $ended;
        }
        if (!$early || count(self::$ended) > Limits::SAVED_QUERIES) {
            Client::quietly(static function () use ($connection, $ended, $early) {
                $sql = Client::sql('pgsql');
                self::takeOver($sql);
                if ($sql !== null && !$early) {
                    self::at($connection);
                    self::$untilNs = $sql->stacksFrom();
                    self::$connection->took($sql, $ended[0], $ended[2], $ended[3]);
                }
            });
        }
    }

    /** What has been kept goes into the request's log, if there is one. */
    public static function takeOver(?Sql $sql): void
    {
        $all = self::$ended;
        self::$ended = [];
        if ($sql === null || $all === []) {
            return;
        }
        $began = hrtime(true);
        foreach ($all as [$text, $endNs, $ns, $failed]) {
            self::$connection->keep($sql, $text, $endNs, $ns, $failed);
        }
        $sql->spend(hrtime(true) - $began);
    }

    /** What was kept between two jobs is nobody's. */
    public static function forget(): void
    {
        self::$ended = [];
        self::$untilNs = 0;
    }

    private static function isLast($connection): bool
    {
        return is_object($connection)
            ? self::$last instanceof \WeakReference && self::$last->get() === $connection
            : self::$last === (int) $connection;
    }

    private static function at($connection): void
    {
        if (self::isLast($connection)) {
            return;
        }
        // Weakly: to keep the connection would keep it open.
        self::$last = is_object($connection) ? \WeakReference::create($connection) : (int) $connection;
        self::$connection = new Connection([
            'driver' => 'pgsql',
            'host' => pg_host($connection),
            'port' => pg_port($connection),
            'database' => pg_dbname($connection),
            'user' => pg_parameter_status($connection, 'session_authorization'),
        ]);
    }
}
