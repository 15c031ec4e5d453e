<?php

declare(strict_types=1);

namespace Shop;

/** Recommendations, worked out anew for every visitor: nothing but CPU. */
final class Recommend
{
    private const PRODUCTS = 440;
    private const FEATURES = 128;

    public static function similarity_matrix(): array
    {
        $features = self::features();
        $matrix = [];
        for ($a = 0; $a < self::PRODUCTS; $a++) {
            for ($b = 0; $b < $a; $b++) {
                $sum = 0;
                foreach ($features[$a] as $i => $value) {
                    $sum += $value * $features[$b][$i];
                }
                $matrix[$a][$b] = $sum;
            }
        }
        return $matrix;
    }

    /** The products most like one another, as ids. */
    public static function best(array $matrix, int $count): array
    {
        $best = [];
        foreach ($matrix as $a => $row) {
            $best[$a] = max($row);
        }
        arsort($best);
        return array_map(static function (int $a): int {
            return $a + 1;
        }, array_slice(array_keys($best), 0, $count));
    }

    private static function features(): array
    {
        mt_srand(7);
        $features = [];
        for ($p = 0; $p < self::PRODUCTS; $p++) {
            for ($f = 0; $f < self::FEATURES; $f++) {
                $features[$p][] = mt_rand(0, 99);
            }
        }
        return $features;
    }
}
