<?php

declare(strict_types=1);

namespace Shop;

/** The shop's SQLite database, made and filled on first use. */
final class Database
{
    private const SCHEMA = <<<'SQL'
        CREATE TABLE category (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, name TEXT);
        CREATE TABLE product (id INTEGER PRIMARY KEY, category_id INTEGER, name TEXT, price INTEGER, stock INTEGER);
        CREATE INDEX product_category ON product (category_id);
        CREATE TABLE sales_order (id INTEGER PRIMARY KEY, customer_id INTEGER, placed_at INTEGER);
        CREATE INDEX sales_order_customer ON sales_order (customer_id);
        CREATE TABLE order_line (id INTEGER PRIMARY KEY, order_id INTEGER, product_id INTEGER, quantity INTEGER,
            price INTEGER);
        CREATE INDEX order_line_order ON order_line (order_id);
        CREATE TABLE cart_line (visitor TEXT, product_id INTEGER, quantity INTEGER,
            PRIMARY KEY (visitor, product_id)) WITHOUT ROWID;
        SQL;

    private const CATEGORIES = ['garden-tools', 'kitchen', 'lamps', 'bicycles', 'books', 'paints', 'toys', 'tea'];
    private const WORDS = ['Blue', 'Small', 'Oak', 'Folding', 'Quiet', 'Round', 'Copper', 'Winter', 'Double', 'Plain'];
    private const THINGS = ['Lantern', 'Spade', 'Kettle', 'Basket', 'Ladder', 'Brush', 'Pump', 'Atlas', 'Puzzle'];
    private const PRODUCTS = 480;
    private const ORDERS = 2000;
    private const CUSTOMERS = 40;

    /** A connection; the only line that the monitor asks for is the class it is made of. */
    public static function open(string $directory): \PDO
    {
        $file = $directory . '/shop.sqlite';
        if (!is_file($file)) {
            self::make($file);
        }
        return self::connect($file);
    }

    private static function connect(string $file): \PDO
    {
        $class = class_exists('BitvilleApm\Pdo') ? 'BitvilleApm\Pdo' : 'PDO';
        return new $class('sqlite:' . $file, null, null, [
            \PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION,
            \PDO::ATTR_DEFAULT_FETCH_MODE => \PDO::FETCH_ASSOC,
            \PDO::ATTR_TIMEOUT => 5,
        ]);
    }

    /** Fills a file beside the final one and renames it, so that no request ever sees half a shop. */
    private static function make(string $file): void
    {
        $lock = fopen($file . '.lock', 'c');
        flock($lock, LOCK_EX);
        if (is_file($file)) {
            return;
        }
        $unfinished = $file . '.new';
        @unlink($unfinished);
        $pdo = self::connect($unfinished);
        $pdo->exec('PRAGMA journal_mode = WAL');
        $pdo->beginTransaction();
        $pdo->exec(self::SCHEMA);
        self::fill($pdo);
        $pdo->commit();
        $pdo->exec('PRAGMA wal_checkpoint(TRUNCATE)');
        $pdo = null;
        rename($unfinished, $file);
    }

    private static function fill(\PDO $pdo): void
    {
        mt_srand(20);
        $category = $pdo->prepare('INSERT INTO category (slug, name) VALUES (?, ?)');
        foreach (self::CATEGORIES as $slug) {
            $category->execute([$slug, ucfirst(str_replace('-', ' ', $slug))]);
        }
        $product = $pdo->prepare('INSERT INTO product (category_id, name, price, stock) VALUES (?, ?, ?, ?)');
        $prices = [];
        for ($id = 1; $id <= self::PRODUCTS; $id++) {
            $name = self::WORDS[mt_rand(0, 9)] . ' ' . self::THINGS[mt_rand(0, 8)] . ' No. ' . $id;
            $prices[$id] = mt_rand(300, 24000);
            $product->execute([mt_rand(1, count(self::CATEGORIES)), $name, $prices[$id], mt_rand(0, 60)]);
        }
        $order = $pdo->prepare('INSERT INTO sales_order (customer_id, placed_at) VALUES (?, ?)');
        $line = $pdo->prepare('INSERT INTO order_line (order_id, product_id, quantity, price) VALUES (?, ?, ?, ?)');
        for ($id = 1; $id <= self::ORDERS; $id++) {
            $order->execute([mt_rand(1, self::CUSTOMERS), 1700000000 + $id * 1800]);
            for ($lines = mt_rand(2, 6); $lines > 0; $lines--) {
                $bought = mt_rand(1, self::PRODUCTS);
                $line->execute([$id, $bought, mt_rand(1, 4), $prices[$bought]]);
            }
        }
    }
}
