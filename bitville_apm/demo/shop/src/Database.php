<?php

declare(strict_types=1);

namespace Shop;

/** The shop's database: SQLite, made and filled on first use, or a PostgreSQL server. */
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
        CREATE INDEX order_line_product ON order_line (product_id);
        CREATE TABLE cart_line (visitor TEXT, product_id INTEGER, quantity INTEGER,
            PRIMARY KEY (visitor, product_id));
        CREATE TABLE review (id INTEGER PRIMARY KEY, product_id INTEGER, author_id INTEGER, stars INTEGER,
            written_at INTEGER, words TEXT)
        SQL;

    /** The same rows everywhere: numbers spread by two primes. */
    private const REVIEWS = <<<'SQL'
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
        INSERT INTO review (id, product_id, author_id, stars, written_at, words)
        SELECT i, 1 + (i * 7919) % 480, 1 + (i / 480 * 31 + i) % 6007, 1 + (i * 3571 / 480) % 5, i,
            'good solid works as it should arrived late number ' || i FROM n
        SQL;
    private const REVIEW_COUNT = 60000;

    private const CATEGORIES = ['garden-tools', 'kitchen', 'lamps', 'bicycles', 'books', 'paints', 'toys', 'tea'];
    private const WORDS = ['Blue', 'Small', 'Oak', 'Folding', 'Quiet', 'Round', 'Copper', 'Winter', 'Double', 'Plain'];
    private const THINGS = ['Lantern', 'Spade', 'Kettle', 'Basket', 'Ladder', 'Brush', 'Pump', 'Atlas', 'Puzzle'];
    private const PRODUCTS = 480;
    private const ORDERS = 2000;
    private const CUSTOMERS = 40;

    /** Where the shop keeps its database and its cache, and finds its troubles. */
    public static function directory(): string
    {
        return getenv('SHOP_DATA') ?: sys_get_temp_dir();
    }

    /** A connection: to the server that SHOP_DATABASE names (`pgsql:…`, filled before), else to SQLite. */
    public static function open(): \PDO
    {
        $server = getenv('SHOP_DATABASE');
        if ($server !== false && $server !== '') {
            return self::connect($server);
        }
        $file = self::directory() . '/shop2.sqlite';
        if (!is_file($file)) {
            self::make($file);
        }
        return self::connect("sqlite:$file");
    }

    /** The only line that the monitor asks for is the class a connection is made of. */
    private static function connect(string $to): \PDO
    {
        $class = class_exists('BitvilleApm\Pdo') ? 'BitvilleApm\Pdo' : 'PDO';
        return new $class($to, null, null, [
            \PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION,
            \PDO::ATTR_DEFAULT_FETCH_MODE => \PDO::FETCH_ASSOC,
            \PDO::ATTR_TIMEOUT => 20,
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
        $pdo = self::connect("sqlite:$unfinished");
        $pdo->exec('PRAGMA journal_mode = WAL');
        self::fill($pdo);
        $pdo->exec('PRAGMA wal_checkpoint(TRUNCATE)');
        $pdo = null;
        rename($unfinished, $file);
    }

    /** Tables and rows, in one transaction. */
    public static function fill(\PDO $pdo): void
    {
        $pdo->beginTransaction();
        foreach (explode(';', self::SCHEMA) as $statement) {
            $pdo->exec($statement);
        }
        self::products_and_orders($pdo);
        $pdo->exec(sprintf(str_replace('% ', '%% ', self::REVIEWS), self::REVIEW_COUNT));
        $pdo->exec('CREATE INDEX review_product ON review (product_id, stars)');
        $pdo->exec('CREATE INDEX review_author ON review (author_id)');
        $pdo->commit();
    }

    private static function products_and_orders(\PDO $pdo): void
    {
        mt_srand(20);
        $category = $pdo->prepare('INSERT INTO category (id, slug, name) VALUES (?, ?, ?)');
        foreach (self::CATEGORIES as $n => $slug) {
            $category->execute([$n + 1, $slug, ucfirst(str_replace('-', ' ', $slug))]);
        }
        $product = $pdo->prepare('INSERT INTO product (id, category_id, name, price, stock) VALUES (?, ?, ?, ?, ?)');
        $prices = [];
        for ($id = 1; $id <= self::PRODUCTS; $id++) {
            $name = self::WORDS[mt_rand(0, 9)] . ' ' . self::THINGS[mt_rand(0, 8)] . ' No. ' . $id;
            $prices[$id] = mt_rand(300, 24000);
            $product->execute([$id, mt_rand(1, count(self::CATEGORIES)), $name, $prices[$id], mt_rand(0, 60)]);
        }
        $order = $pdo->prepare('INSERT INTO sales_order (id, customer_id, placed_at) VALUES (?, ?, ?)');
        $line = $pdo->prepare('INSERT INTO order_line (id, order_id, product_id, quantity, price) VALUES (?, ?, ?, ?, ?)');
        $number = 0;
        for ($id = 1; $id <= self::ORDERS; $id++) {
            $order->execute([$id, mt_rand(1, self::CUSTOMERS), 1700000000 + $id * 1800]);
            for ($lines = mt_rand(2, 6); $lines > 0; $lines--) {
                $bought = mt_rand(1, self::PRODUCTS);
                $line->execute([++$number, $id, $bought, mt_rand(1, 4), $prices[$bought]]);
            }
        }
    }
}
