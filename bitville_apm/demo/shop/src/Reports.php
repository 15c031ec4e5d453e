<?php

declare(strict_types=1);

namespace Shop;

/** Figures that nobody should compute while a customer waits. */
final class Reports
{
    private const SALES = 525;

    private \PDO $pdo;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
    }

    /** Where an amount stands among the recent sales: every sale compared with every other, no index helps. */
    public function slow_totals(int $amount): array
    {
        $statement = $this->pdo->prepare(
            'SELECT count(*) AS sales, avg(place) AS middle, sum(CASE WHEN value > CAST(? AS INTEGER) THEN 1 ELSE 0 END) AS larger
             FROM (
                SELECT a.price * a.quantity AS value,
                       (SELECT count(*) FROM order_line b WHERE b.price * b.quantity > a.price * a.quantity) AS place
                FROM order_line a ORDER BY a.id DESC LIMIT ?) AS sale'
        );
        $statement->execute([$amount, self::SALES]);
        return $statement->fetch();
    }

    /** Who said what, month by month: each month goes through all reviews once. */
    public function months(int $count): array
    {
        $statement = $this->pdo->prepare(
            'SELECT CAST(? AS INTEGER) AS month, count(DISTINCT author_id) AS customers, avg(stars) AS mean
             FROM review WHERE length(words) > 8 AND written_at % 12 = CAST(? AS INTEGER)'
        );
        $months = [];
        for ($month = 1; $month <= max(1, $count); $month++) {
            $statement->execute([$month, $month % 12]);
            $months[] = $statement->fetch();
        }
        return $months;
    }

    /** Who liked what others liked: every review with every other of its author's products, minutes of work. */
    public function affinity(): array
    {
        $statement = $this->pdo->query(
            'SELECT count(*) AS pairs, sum(a.stars * c.stars) AS weight FROM review a
             JOIN review b ON b.author_id = a.author_id JOIN review c ON c.product_id = b.product_id
             WHERE a.stars >= 2'
        );
        return $statement->fetch();
    }
}
