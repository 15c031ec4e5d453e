<?php

declare(strict_types=1);

namespace Shop;

/** Products and categories, each with the statement a shop of this size really runs. */
final class Catalogue
{
    private \PDO $pdo;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
    }

    public function categories(): array
    {
        return $this->pdo->query('SELECT slug, name FROM category ORDER BY name')->fetchAll();
    }

    public function in_category(string $slug): array
    {
        return $this->rows(
            'SELECT p.id, p.name, p.price FROM product p JOIN category c ON c.id = p.category_id
             WHERE c.slug = ? ORDER BY p.name LIMIT 60',
            [$slug]
        );
    }

    public function best_sellers(): array
    {
        return $this->rows(
            'SELECT p.id, p.name, p.price, sum(l.quantity) AS sold FROM order_line l JOIN product p ON p.id = l.product_id
             WHERE l.order_id > ? GROUP BY p.id ORDER BY sold DESC LIMIT 12',
            [1900]
        );
    }

    public function product(int $id): ?array
    {
        return $this->rows('SELECT id, name, price, stock, category_id FROM product WHERE id = ?', [$id])[0] ?? null;
    }

    public function like(string $words): array
    {
        return $this->rows(
            'SELECT id, name, price FROM product WHERE name LIKE ? ORDER BY price LIMIT 40',
            ['%' . $words . '%']
        );
    }

    public function neighbours(array $product): array
    {
        return $this->rows(
            'SELECT id, name, price FROM product WHERE category_id = ? AND id <> ? ORDER BY abs(price - ?) LIMIT 6',
            [$product['category_id'], $product['id'], $product['price']]
        );
    }

    public function stock(): array
    {
        return $this->rows('SELECT id, stock FROM product WHERE stock < ? ORDER BY stock, id LIMIT 100', [5]);
    }

    private function rows(string $sql, array $values): array
    {
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);
        return $statement->fetchAll();
    }
}
