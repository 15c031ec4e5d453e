<?php

declare(strict_types=1);

namespace Shop;

/** Badges on pictures: came with the last release, and is too slow. */
final class Stickers
{
    public static function render_badges(float $ms): int
    {
        return Trouble::compute($ms);
    }
}
