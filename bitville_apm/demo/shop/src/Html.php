<?php

declare(strict_types=1);

namespace Shop;

/** The look of the shop: every page goes through here. */
final class Html
{
    private const STYLE = 'body{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}'
        . 'nav a{margin-right:1em}li{margin:.2em 0}td{padding:.1em 1em .1em 0}';

    public static function page(string $title, string $content, array $categories = []): void
    {
        $links = '<a href="/">Home</a><a href="/cart">Cart</a><a href="/recommendations">For you</a>';
        foreach ($categories as $category) {
            $links .= sprintf('<a href="/category/%s">%s</a>', $category['slug'], self::text($category['name']));
        }
        header('Content-Type: text/html; charset=utf-8');
        printf(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>%1$s</title><style>%2$s</style></head>'
            . '<body><nav>%3$s</nav><h1>%1$s</h1>%4$s</body></html>' . "\n",
            self::text($title),
            self::STYLE,
            $links,
            $content
        );
    }

    public static function products(array $products): string
    {
        $items = '';
        foreach ($products as $product) {
            $items .= sprintf(
                '<li><a href="/product/%d">%s</a>, %s</li>',
                $product['id'],
                self::text($product['name']),
                self::price((int) $product['price'])
            );
        }
        return $items === '' ? '<p>Nothing here.</p>' : "<ul>$items</ul>";
    }

    public static function table(array $rows): string
    {
        $html = '';
        foreach ($rows as $row) {
            $html .= '<tr><td>' . implode('</td><td>', array_map([self::class, 'text'], $row)) . '</td></tr>';
        }
        return "<table>$html</table>";
    }

    public static function price(int $cents): string
    {
        return number_format($cents / 100, 2) . ' EUR';
    }

    public static function text(string $text): string
    {
        return htmlspecialchars($text, ENT_QUOTES, 'UTF-8');
    }
}
