<?php

declare(strict_types=1);

namespace Shop;

/**
 * What goes wrong on purpose: `trouble.json` beside the database, written and removed by `bitville demo`.
 *
 * It holds `{kind: {"until": unix time, "page": route, …}}`. Without the file a request pays for one call that fails;
 * after `until` a trouble is over whatever became of who made it.
 */
final class Trouble
{
    private static array $met = [];

    /** What this request meets on its way to a route. */
    public static function meet(string $route): void
    {
        $text = @file_get_contents(Database::directory() . '/trouble.json');
        $all = $text === false ? null : json_decode($text, true);
        foreach (is_array($all) ? $all : [] as $kind => $trouble) {
            if (time() < $trouble['until'] && in_array($trouble['page'] ?? $route, [$route, ''], true)) {
                self::$met[$kind] = $trouble;
            }
        }
        if (isset(self::$met['burner'])) {
            Campaign::personal_offers((float) self::$met['burner']['ms']);
        }
        if (isset(self::$met['deploy'])) {
            Stickers::render_badges((float) self::$met['deploy']['ms']);
        }
    }

    /** The trouble of a kind that this request meets, or null. */
    public static function of(string $kind): ?array
    {
        return self::$met[$kind] ?? null;
    }
}
