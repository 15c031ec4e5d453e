<?php

declare(strict_types=1);

namespace Shop;

/** What customers say about products: the shop's largest table. */
final class Reviews
{
    private \PDO $pdo;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
    }

    /** What those who liked this product liked as well: some thousand rows, a few milliseconds. */
    public function also_liked(int $product): array
    {
        $statement = $this->pdo->prepare(
            'SELECT b.product_id, count(*) AS fans FROM review a JOIN review b ON b.author_id = a.author_id
             WHERE a.product_id = ? AND b.stars > 3 AND b.product_id <> a.product_id
             GROUP BY b.product_id ORDER BY fans DESC, b.product_id LIMIT 4'
        );
        $statement->execute([$product]);
        return $statement->fetchAll();
    }

    /** One after the other for a whole list: what a loop around `also_liked` does (N+1). */
    public function also_liked_by_each(array $products, int $rounds): int
    {
        $fans = 0;
        for ($round = 0; $round < $rounds; $round++) {
            foreach ($products as $product) {
                foreach ($this->also_liked((int) $product['id']) as $other) {
                    $fans += $other['fans'];
                }
            }
        }
        return $fans;
    }

    /** How many words all reviews have, counted word by word. */
    public function reindex(int $rounds): int
    {
        $words = [];
        for ($round = 0; $round < $rounds; $round++) {
            foreach ($this->pdo->query('SELECT words FROM review ORDER BY id LIMIT 30000') as $review) {
                foreach (explode(' ', $review['words']) as $word) {
                    $words[$word] = ($words[$word] ?? 0) + 1;
                }
            }
        }
        return array_sum($words);
    }
}
