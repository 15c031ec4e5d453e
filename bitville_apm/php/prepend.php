<?php
/**
 * The stub for auto_prepend_file. Upgrades never touch it.
 *
 * PHP answers a missing auto_prepend_file with an empty page. So the ini names this file, and this file takes the
 * client only if it is there; a client that is half installed costs the measurement, never the page.
 */
(static function () {
    try {
        if (is_file(__DIR__ . '/listener.php')) {
            @include __DIR__ . '/listener.php';
        }
    } catch (\Throwable $e) {
        // A page is worth more than its measurement.
    }
})();
