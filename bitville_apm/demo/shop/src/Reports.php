<?php

declare(strict_types=1);

namespace Shop;

/** Figures for the invoice's footer that nobody should compute while a customer waits. */
final class Reports
{
    private const SALES = 700;

    private \PDO $pdo;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
    }

    /** Where an amount stands among the recent sales: every sale compared with every other, no index helps. */
    public function slow_totals(int $amount): array
    {
        $statement = $this->pdo->prepare(
            'SELECT count(*) AS sales, avg(place) AS middle, sum(value > CAST(? AS INTEGER)) AS larger FROM (
                SELECT a.price * a.quantity AS value,
                       (SELECT count(*) FROM order_line b WHERE b.price * b.quantity > a.price * a.quantity) AS place
                FROM order_line a ORDER BY a.id DESC LIMIT ?)'
        );
        $statement->execute([$amount, self::SALES]);
        return $statement->fetch();
    }
}
