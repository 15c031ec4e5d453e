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

    /** The categories with what their reviews say: all reviews are read, so it is asked for once a minute only. */
    public function menu(): array
    {
        return $this->rows(
            'SELECT c.slug, c.name, count(DISTINCT r.author_id) AS fans,
                    count(DISTINCT lower(r.words)) AS sayings, avg(r.stars) AS stars
             FROM category c JOIN product p ON p.category_id = c.id JOIN review r ON r.product_id = p.id
             GROUP BY c.id, c.slug, c.name ORDER BY c.name',
            []
        );
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
            'SELECT id, name, price FROM product WHERE lower(name) LIKE lower(?) ORDER BY price LIMIT 40',
            ['%' . $words . '%']
        );
    }

    /** The best reviewed of the same category, and near in price. */
    public function neighbours(array $product): array
    {
        return $this->rows(
            'SELECT p.id, p.name, p.price, (SELECT avg(r.stars) FROM review r WHERE r.product_id = p.id) AS stars
             FROM product p WHERE p.category_id = ? AND p.id <> ? ORDER BY stars DESC, abs(p.price - ?) LIMIT 6',
            [$product['category_id'], $product['id'], $product['price']]
        );
    }

    /** What runs out, with how much of it was sold. */
    public function stock(): array
    {
        return $this->rows(
            'SELECT p.id, p.stock, (SELECT sum(l.quantity) FROM order_line l WHERE l.product_id = p.id) AS sold
             FROM product p WHERE p.stock < ? ORDER BY p.stock, p.id LIMIT 100',
            [5]
        );
    }

    public function prices(array $ids): array
    {
        $marks = implode(', ', array_fill(0, count($ids), '?'));
        return $this->rows("SELECT id, price FROM product WHERE id IN ($marks)", $ids);
    }

    public function newest(): array
    {
        return $this->rows(
            'SELECT p.id, p.name, p.price, (SELECT count(*) FROM review r WHERE r.product_id = p.id) AS reviews
             FROM product p ORDER BY p.id DESC LIMIT ?',
            [60]
        );
    }

    private function rows(string $sql, array $values): array
    {
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);
        return $statement->fetchAll();
    }
}
