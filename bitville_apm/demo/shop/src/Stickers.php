<?php

declare(strict_types=1);

namespace Shop;

/** Badges on pictures: came with the last release, and is too slow. */
final class Stickers
{
    /** Costs so much CPU, however busy the machine is. */
    public static function render_badges(float $ms): string
    {
        $end = null;
        do {
            $dots = '';
            for ($i = 0; $i < 30000; $i++) {
                $dots .= chr(($i * 37 ^ $i >> 3) & 0xff);
            }
            $used = getrusage();
            $now = $used['ru_utime.tv_sec'] * 1e3 + $used['ru_utime.tv_usec'] / 1e3;
            $end = $end ?? $now + $ms;
        } while ($now < $end);
        return $dots;
    }
}
