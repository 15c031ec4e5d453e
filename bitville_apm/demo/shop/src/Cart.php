<?php

declare(strict_types=1);

namespace Shop;

/** What one visitor means to buy. */
final class Cart
{
    private \PDO $pdo;
    private string $visitor;

    public function __construct(\PDO $pdo, string $visitor)
    {
        $this->pdo = $pdo;
        $this->visitor = $visitor;
    }

    public function add(int $product, int $quantity): void
    {
        $this->pdo->prepare(
            'INSERT INTO cart_line (visitor, product_id, quantity) VALUES (?, ?, ?)
             ON CONFLICT (visitor, product_id) DO UPDATE SET quantity = excluded.quantity'
        )->execute([$this->visitor, $product, $quantity]);
    }

    public function lines(): array
    {
        $statement = $this->pdo->prepare(
            'SELECT p.id, p.name, p.price, c.quantity FROM cart_line c JOIN product p ON p.id = c.product_id
             WHERE c.visitor = ? ORDER BY p.name'
        );
        $statement->execute([$this->visitor]);
        return $statement->fetchAll();
    }

    public function clear(): void
    {
        $this->pdo->prepare('DELETE FROM cart_line WHERE visitor = ?')->execute([$this->visitor]);
    }
}
