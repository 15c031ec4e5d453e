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
        // Everything at once: with opcache a file costs 0.2 microseconds, and an upgrade in the middle of a request
        // cannot mix two versions.
        $classes = class_exists('BitvilleApm\\Client', false) ? [] : [
            'Limits', 'Config', 'Client', 'Redactor', 'UserAgent', 'Facts', 'Meter', 'Profiler', 'NoProfiler',
            'ExcimerProfiler', 'Stacks', 'Sql', 'Statement', 'Record', 'Markers', 'Spool', 'Transport', 'Handover',
            'Request', 'PdoConnection', 'PdoStatement', 'Pdo',
        ];
        foreach ($classes as $class) {
            if (($class === 'Pdo' || $class === 'PdoStatement') && !class_exists('PDO', false)) {
                continue;
            }
            // Without Statement.php statements are not sent; without any other file nothing works.
            if ((include __DIR__ . '/src/' . $class . '.php') === false && $class !== 'Statement') {
                return;
            }
        }
        include __DIR__ . '/helpers.php';
        \BitvilleApm\Client::boot($started);
    } catch (\Throwable $e) {
        // Nothing of ours may reach the application.
    } finally {
        if ($quiet) {
            restore_error_handler();
        }
    }
})();
