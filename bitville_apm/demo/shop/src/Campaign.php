<?php

declare(strict_types=1);

namespace Shop;

/** Offers for one visitor: the function that somebody switches on for a campaign and that burns CPU. */
final class Campaign
{
    public static function personal_offers(float $ms): int
    {
        return Trouble::compute($ms);
    }
}
