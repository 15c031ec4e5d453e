<?php

declare(strict_types=1);

namespace Shop;

/** Badges on pictures: came with the last release, and is too slow. */
final class Stickers
{
    public static function render_badges(float $ms): string
    {
        $dots = '';
        $end = Trouble::cpu_ms() + $ms;
        while (Trouble::cpu_ms() < $end) {
            $dots = '';
            for ($i = 0; $i < 30000; $i++) {
                $dots .= chr(($i * 37 ^ $i >> 3) & 0xff);
            }
        }
        return $dots;
    }
}
