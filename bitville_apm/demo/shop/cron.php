<?php
/** The shop's night work, by the command line: `php cron.php reindex [rounds]` counts the words of all reviews. */

declare(strict_types=1);

namespace Shop;

spl_autoload_register(static function (string $class): void {
    require __DIR__ . '/src/' . substr($class, 5) . '.php';
});

if (($argv[1] ?? '') !== 'reindex') {
    fwrite(STDERR, "usage: php cron.php reindex [rounds]\n");
    exit(2);
}
printf("%d words\n", (new Reviews(Database::open()))->reindex((int) ($argv[2] ?? 1)));
