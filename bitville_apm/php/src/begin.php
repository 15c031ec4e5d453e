<?php
/**
 * The classes that every request needs from its start, and the helpers.
 *
 * All other classes are in rest.php, which is loaded when a request ends or needs one of them: to begin a request is
 * what every page waits for. `bitville php install` reads both lists and writes a file of each, named after their
 * content, so that an upgrade in the middle of a request cannot mix two versions. Returns whether all are there.
 */
return (static function () {
    $classes = [
        'Limits', 'Config', 'Client', 'Redactor', 'UserAgent', 'Facts', 'Meter', 'Budget', 'Profiler',
        'NoProfiler', 'ExcimerProfiler', 'Transport', 'Endpoint', 'Application', 'Request',
        'PdoStatement', 'Pdo', 'MysqliStatement', 'Mysqli',
    ];
    foreach ($classes as $class) {
        if (strncmp($class, 'Pdo', 3) === 0 && !class_exists('PDO', false)
            || strncmp($class, 'Mysqli', 6) === 0 && !class_exists('mysqli', false)) {
            continue;
        }
        if ((include __DIR__ . '/' . $class . '.php') === false) {
            return false;
        }
    }
    return (include dirname(__DIR__) . '/helpers.php') !== false;
})();
