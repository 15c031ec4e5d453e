<?php
/**
 * Every class and function of the client, at once: an upgrade in the middle of a request cannot mix two versions.
 *
 * `bitville php install` reads the order from here and writes them all into one file, which is loaded in half the
 * time. Returns whether all are there.
 */
return (static function () {
    $classes = [
        'Limits', 'Config', 'Client', 'Redactor', 'UserAgent', 'Facts', 'Meter', 'Profiler', 'NoProfiler',
        'ExcimerProfiler', 'Stacks', 'Sql', 'Statement', 'Record', 'Markers', 'Spool', 'Transport', 'Handover',
        'AfterAll', 'Request', 'PdoConnection', 'PdoStatement', 'Pdo',
    ];
    foreach ($classes as $class) {
        if (($class === 'Pdo' || $class === 'PdoStatement') && !class_exists('PDO', false)) {
            continue;
        }
        // Without Statement.php statements are not sent; without any other file nothing works.
        if ((include __DIR__ . '/' . $class . '.php') === false && $class !== 'Statement') {
            return false;
        }
    }
    return (include dirname(__DIR__) . '/helpers.php') !== false;
})();
