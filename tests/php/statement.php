<?php

/*
 * Statement.php at work for the Python tests: php statement.php PATH_TO_Statement.php
 *
 * Each line of standard input is {"sql": base64, "dialect": …} and is answered by {"statement": base64,
 * "fingerprint": …}; {"seconds": base64, "dialect": …} is answered by the CPU time of reading the text uncut.
 */

declare(strict_types=1);

use BitvilleApm\Statement;

require dirname($argv[1]) . '/Dialect.php';
require $argv[1];
error_reporting(E_ALL);
set_error_handler(static function (int $level, string $message): bool {
    throw new \ErrorException($message);
});

$uncut = static function (string $sql, string $dialect): void {
    foreach (['withoutLiterals' => [$sql, $dialect], 'fold' => null, 'utf8' => null] as $step => $arguments) {
        $method = new \ReflectionMethod(Statement::class, $step);
        $method->setAccessible(true);
        $text = $method->invokeArgs(null, $arguments ?? [$text]);
    }
};
while (($line = fgets(STDIN)) !== false) {
    $asked = json_decode($line, true);
    if (isset($asked['seconds'])) {
        $before = getrusage();
        $uncut(base64_decode($asked['seconds']), $asked['dialect']);
        $after = getrusage();
        $answer = ['seconds' => $after['ru_utime.tv_sec'] - $before['ru_utime.tv_sec']
            + ($after['ru_utime.tv_usec'] - $before['ru_utime.tv_usec']) / 1e6];
    } else {
        $statement = Statement::normalise(base64_decode($asked['sql']), $asked['dialect']);
        $answer = ['statement' => base64_encode($statement), 'fingerprint' => Statement::fingerprint($statement)];
    }
    echo json_encode($answer), "\n";
}
