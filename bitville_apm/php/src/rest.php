<?php
/** The classes that a request needs at its end or when it uses them; see begin.php. Returns whether all are there. */
return (static function () {
    $classes = [
        'XhprofProfiler', 'Stacks', 'Sql', 'SqlSection', 'Origin', 'Dialect', 'Statement', 'Connection', 'Record',
        'Message', 'Server', 'Ending', 'Markers', 'Spool', 'Handover', 'AfterAll', 'WordPress', 'WordPressStatements',
        'Routes', 'Calls', 'Pgsql', 'Frameworks', 'HttpClients',
    ];
    foreach ($classes as $class) {
        // Without Statement.php statements are not sent; without any other file nothing works.
        if ((include __DIR__ . '/' . $class . '.php') === false && $class !== 'Statement') {
            return false;
        }
    }
    return true;
})();
