<?php
/**
 * The demo's shop: one route table, one call.
 *
 * Runs under php-fpm and under the server built into PHP. It knows nothing of the monitor but for three lines: the
 * class of its database connection (Database::connect), the name of its route (below) and the time its carrier took
 * (Delivery::quote).
 */

declare(strict_types=1);

namespace Shop;

spl_autoload_register(static function (string $class): void {
    if (strncmp($class, 'Shop\\', 5) === 0) {
        require __DIR__ . '/src/' . substr($class, 5) . '.php';
    }
});

$routes = [
    'GET /' => [Pages::class, 'home'],
    'GET /category/{slug}' => [Pages::class, 'category'],
    'GET /product/{id}' => [Pages::class, 'product'],
    'GET /search' => [Pages::class, 'search'],
    'GET /cart' => [Pages::class, 'cart'],
    'POST /cart' => [Pages::class, 'add_to_cart'],
    'POST /checkout' => [Pages::class, 'checkout'],
    'GET /orders/{id}' => [Pages::class, 'orders'],
    'GET /recommendations' => [Pages::class, 'recommendations'],
    'POST /login' => [Pages::class, 'login'],
    'POST /voucher' => [Pages::class, 'voucher'],
    'GET /admin/report' => [Pages::class, 'report'],
    'GET /api/stock' => [Data::class, 'stock'],
    'GET /api/prices' => [Data::class, 'prices'],
    'GET /api/delivery/{id}' => [Data::class, 'delivery'],
    'GET /feed' => [Data::class, 'feed'],
    'GET /image/{id}' => [Data::class, 'image'],
];

$asked = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
foreach ($routes as $route => [$class, $page]) {
    $pattern = '#^' . str_replace(['{id}', '{slug}'], ['(\d+)', '([a-z-]+)'], $route) . '$#';
    if (preg_match($pattern, $asked, $found)) {
        if (function_exists('bitville_apm_set_endpoint')) {
            bitville_apm_set_endpoint($route);
        }
        Trouble::meet($route);
        (new $class(Database::open()))->$page(...array_slice($found, 1));
        return;
    }
}
(new Pages(Database::open()))->not_found();
