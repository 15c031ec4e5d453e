<?php

declare(strict_types=1);

namespace Shop;

/** The orders of a customer, read the way that goes wrong: a query for the orders, then one for every line (N+1). */
final class Orders
{
    private \PDO $pdo;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
    }

    public function history(int $customer): array
    {
        $orders = $this->pdo->prepare('SELECT id, placed_at FROM sales_order WHERE customer_id = ? ORDER BY id DESC');
        $orders->execute([$customer]);
        $history = [];
        foreach ($orders->fetchAll() as $order) {
            $lines = $this->pdo->prepare('SELECT product_id, quantity, price FROM order_line WHERE order_id = ?');
            $lines->execute([$order['id']]);
            foreach ($lines->fetchAll() as $line) {
                $line['name'] = $this->product_name((int) $line['product_id']);
                $history[] = $line + ['placed_at' => $order['placed_at'], 'order_id' => $order['id']];
            }
        }
        return $history;
    }

    private function product_name(int $product): string
    {
        $statement = $this->pdo->prepare('SELECT name FROM product WHERE id = ?');
        $statement->execute([$product]);
        return (string) $statement->fetchColumn();
    }
}
