<?php

declare(strict_types=1);

namespace Shop;

/** What is worked out once a minute for all: a file a key. Nobody waits for who rebuilds it, so all do at once. */
final class Cache
{
    private const SECONDS = 60;

    public static function remember(string $key, callable $make): array
    {
        $file = Database::directory() . "/cache-$key";
        if (Trouble::of('stampede') === null && is_file($file) && time() - filemtime($file) < self::SECONDS) {
            $kept = unserialize((string) file_get_contents($file), ['allowed_classes' => false]);
            if (is_array($kept)) {
                return $kept;
            }
        }
        $made = $make();
        $new = $file . '.' . getmypid();
        file_put_contents($new, serialize($made));
        rename($new, $file);
        return $made;
    }
}
