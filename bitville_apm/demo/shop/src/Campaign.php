<?php

declare(strict_types=1);

namespace Shop;

/** Offers for one visitor: the function that somebody switches on for a campaign and that burns CPU. */
final class Campaign
{
    /** Costs so much CPU, however busy the machine is. */
    public static function personal_offers(float $ms): int
    {
        $score = 1;
        $end = null;
        do {
            for ($i = 0; $i < 50000; $i++) {
                $score = ($score * 1103515245 + 12345) & 0x7fffffff;
            }
            $used = getrusage();
            $now = $used['ru_utime.tv_sec'] * 1e3 + $used['ru_utime.tv_usec'] / 1e3;
            $end = $end ?? $now + $ms;
        } while ($now < $end);
        return $score;
    }
}
