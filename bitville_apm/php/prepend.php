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
(static function () {
    try {
        if (@is_file(__DIR__ . '/listener.php')) {
            @include __DIR__ . '/listener.php';
        }
    } catch (\Throwable $e) {
        // A page is worth more than its measurement.
    }
})();
if (is_file(__DIR__ . '/chain.php')) {
    require __DIR__ . '/chain.php';
}
