<?php

declare(strict_types=1);

namespace Shop;

/** Offers for one visitor: the function that somebody switches on for a campaign and that burns CPU. */
final class Campaign
{
    public static function personal_offers(float $ms): int
    {
        $score = 1;
        $end = Trouble::cpu_ms() + $ms;
        while (Trouble::cpu_ms() < $end) {
            for ($i = 0; $i < 50000; $i++) {
                $score = ($score * 1103515245 + 12345) & 0x7fffffff;
            }
        }
        return $score;
    }
}
