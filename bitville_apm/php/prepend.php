<?php
/**
 * The stub for auto_prepend_file. Upgrades never touch it.
 *
 * PHP answers a missing auto_prepend_file with an empty page. So the ini names this file, and this file takes the
 * client only if it is there; a client that is half installed costs the measurement, never the page.
 *
 * PHP knows one auto_prepend_file only. One that was set before us is named by chain.php (`bitville php install`
 * writes it) and required here, outside of any function: its variables are global, its warnings, its exceptions and
 * its absence are its own, whatever becomes of the client.
 */
if ((static function () {
    // A handler rather than `@` alone: it keeps error_get_last() as it was.
    $quiet = function_exists('set_error_handler') && function_exists('restore_error_handler');
    if ($quiet) {
        set_error_handler(static function () {
            return true;
        });
    }
    $chained = false;
    try {
        $there = function_exists('is_file') ? 'is_file' : 'file_exists';
        $chained = @$there(__DIR__ . '/chain.php');
        // Where it is missing this is a warning that nobody sees, and not the error that `require` would be.
        @include __DIR__ . '/listener.php';
    } catch (\Throwable $e) {
        // A page is worth more than its measurement.
    }
    if ($quiet) {
        restore_error_handler();
    }
    return $chained;
})()) {
    require __DIR__ . '/chain.php';
}
