<?php
/**
 * The demo's shop: one route table, one call.
 *
 * Runs under php-fpm and under the server built into PHP. It knows nothing of the monitor but for two lines: the
 * class of its database connection (Database::open) and the name of its route (below).
 */

declare(strict_types=1);

namespace Shop;

spl_autoload_register(static function (string $class): void {
    if (strncmp($class, 'Shop\\', 5) === 0) {
        require __DIR__ . '/src/' . substr($class, 5) . '.php';
    }
});

$routes = [
    'GET /' => 'home',
    'GET /category/{slug}' => 'category',
    'GET /product/{id}' => 'product',
    'GET /search' => 'search',
    'GET /cart' => 'cart',
    'POST /cart' => 'add_to_cart',
    'POST /checkout' => 'checkout',
    'GET /orders/{id}' => 'orders',
    'GET /recommendations' => 'recommendations',
    'GET /api/stock' => 'stock',
    'POST /voucher' => 'voucher',
];

$asked = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$pages = new Pages(Database::open(getenv('SHOP_DATA') ?: sys_get_temp_dir()));
foreach ($routes as $route => $page) {
    $pattern = '#^' . str_replace(['{id}', '{slug}'], ['(\d+)', '([a-z-]+)'], $route) . '$#';
    if (preg_match($pattern, $asked, $found)) {
        if (function_exists('bitville_apm_set_endpoint')) {
            bitville_apm_set_endpoint($route);
        }
        $pages->$page(...array_slice($found, 1));
        return;
    }
}
$pages->not_found();
