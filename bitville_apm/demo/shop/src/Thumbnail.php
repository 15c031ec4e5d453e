<?php

declare(strict_types=1);

namespace Shop;

/** A product's picture, drawn dot by dot: a small bitmap (BMP, 24 bits). */
final class Thumbnail
{
    private const SIDE = 96;

    public static function of(int $product): string
    {
        $dots = '';
        $red = $product * 37 % 256;
        for ($y = 0; $y < self::SIDE; $y++) {
            for ($x = 0; $x < self::SIDE; $x++) {
                $far = ($x - 48) * ($x - 48) + ($y - 48) * ($y - 48) > 2000;
                $dots .= $far ? "\xff\xff\xff" : chr($x * 2) . chr($y * 2) . chr($red);
            }
        }
        $head = 14 + 40;
        return 'BM' . pack('VVV', $head + strlen($dots), 0, $head)
            . pack('VVVvvVVVVVV', 40, self::SIDE, self::SIDE, 1, 24, 0, strlen($dots), 2835, 2835, 0, 0) . $dots;
    }
}
