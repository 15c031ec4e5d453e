<?php
/**
 * MediaWiki's database classes call pg_send_query() and pg_get_result() by their short names. PHP looks for those in
 * their namespace first, and finds these, which pass everything on.
 */
namespace Wikimedia\Rdbms;

if (!function_exists('Wikimedia\Rdbms\pg_send_query') && !function_exists('Wikimedia\Rdbms\pg_get_result')) {
    function pg_send_query($connection, $query)
    {
        \BitvilleApm\Pgsql::$under = [$connection, $query, \hrtime(true)];
        return \pg_send_query($connection, $query);
    }

    function pg_get_result($connection)
    {
        $result = \pg_get_result($connection);
        // MediaWiki asks for more before each statement, too.
        if (\BitvilleApm\Pgsql::$under !== null) {
            \BitvilleApm\Pgsql::got($connection, $result);
        }
        return $result;
    }
}
