<?php
/**
 * Bitville APM, the PHP client: the one file to include, by auto_prepend_file (through prepend.php) or `require`.
 *
 * It loads its classes itself (no Composer), begins the request, and leaves no variable, no handler and no last
 * error behind. Including it twice does nothing more.
 */
(static function () {
    $started = function_exists('hrtime') ? hrtime(true) : 0;
    // A handler of our own, rather than `@`: it keeps error_get_last() as the application left it.
    $quiet = function_exists('set_error_handler') && function_exists('restore_error_handler');
    if ($quiet) {
        set_error_handler(static function () {
            return true;
        });
    }
    try {
        // `bitville php install` puts a file there that holds all classes of one version: no upgrade can mix two.
        if (class_exists('BitvilleApm\\Client', false) || (include __DIR__ . '/src/begin.php') === true) {
            \BitvilleApm\Client::boot($started, __DIR__);
        }
    } catch (\Throwable $e) {
        // Nothing of ours may reach the application.
    } finally {
        if ($quiet) {
            restore_error_handler();
        }
    }
})();
