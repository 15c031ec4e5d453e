<?php

declare(strict_types=1);

namespace Shop;

/** What the carrier asks for a parcel: a call to another host, which answers when it likes. */
final class Delivery
{
    private const HOST = 'carrier.example';

    /** The price in cents, or null when the carrier says nothing. */
    public static function quote(int $product): ?int
    {
        $carrier = getenv('SHOP_CARRIER');
        if ($carrier === false) {
            return null;
        }
        $options = ['http' => ['timeout' => 20, 'header' => 'Host: ' . self::HOST . "\r\nConnection: close"]];
        $start = hrtime(true);
        $answer = @file_get_contents("$carrier/quote?product=$product", false, stream_context_create($options));
        if (function_exists('bitville_apm_external')) {
            bitville_apm_external(self::HOST, (hrtime(true) - $start) / 1e6);
        }
        $quote = $answer === false ? null : json_decode($answer, true);
        return isset($quote['cents']) ? (int) $quote['cents'] : null;
    }
}
