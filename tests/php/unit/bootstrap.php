<?php

declare(strict_types=1);

/** The client's classes, as a request loads them, without a request. */
(static function (): void {
    foreach (['begin', 'rest'] as $part) {
        if ((require dirname(__DIR__, 3) . "/bitville_apm/php/src/$part.php") !== true) {
            throw new RuntimeException("not all classes of $part.php are there");
        }
    }
})();
