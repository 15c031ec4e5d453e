<?php

declare(strict_types=1);

namespace Shop;

/** An invoice as a small but complete PDF, its security pattern computed dot by dot in PHP. */
final class Invoice
{
    private const WIDTH = 4000;
    private const HEIGHT = 7500;

    public static function of(array $lines, array $totals): string
    {
        $text = '';
        foreach ($lines as $n => $line) {
            $text .= sprintf("1 0 0 1 60 %d Tm (%s) Tj\n", 740 - 14 * $n, addcslashes($line['name'], '()\\'));
        }
        $text .= sprintf("1 0 0 1 60 80 Tm (%d of %d sales were larger) Tj", $totals['larger'], $totals['sales']);
        return self::render_pdf($text);
    }

    /** The slow function: a number that depends on every dot of a drawing that depends on the text. */
    private static function render_pdf(string $text): string
    {
        $ink = crc32($text);
        $pattern = 0;
        for ($y = 0; $y < self::HEIGHT; $y++) {
            for ($x = 0; $x < self::WIDTH; $x++) {
                $ink = ($ink * 1103515245 + 12345) & 0x7fffffff;
                $pattern = ($pattern + (($ink >> 16) ^ ($x * $y))) & 0xffffffff;
            }
        }
        $page = "BT /F1 11 Tf\n$text\nET\n% " . dechex($pattern) . "\n";
        return "%PDF-1.4\n1 0 obj <</Length " . strlen($page) . ">> stream\n$page\nendstream endobj\n%%EOF\n";
    }
}
