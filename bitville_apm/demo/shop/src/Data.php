<?php

declare(strict_types=1);

namespace Shop;

/** What programs ask for: JSON, the feed, pictures. One method a route. */
final class Data
{
    private Catalogue $catalogue;

    public function __construct(\PDO $pdo)
    {
        $this->catalogue = new Catalogue($pdo);
    }

    public function stock(): void
    {
        self::json(['low' => $this->catalogue->stock()]);
    }

    /** `?ids=1,2,3` */
    public function prices(): void
    {
        $ids = array_slice(array_map('intval', explode(',', (string) ($_GET['ids'] ?? ''))), 0, 50);
        self::json(['prices' => $this->catalogue->prices($ids)]);
    }

    public function delivery(string $id): void
    {
        $cents = Delivery::quote((int) $id);
        if ($cents === null) {
            http_response_code(503);
        }
        self::json(['delivery' => $cents]);
    }

    public function feed(): void
    {
        header('Content-Type: application/rss+xml; charset=utf-8');
        echo '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>The Demo Shop</title>';
        foreach ($this->catalogue->newest() as $product) {
            printf(
                '<item><title>%s</title><link>/product/%d</link><description>%s, %d reviews</description></item>',
                Html::text($product['name']),
                $product['id'],
                Html::price((int) $product['price']),
                $product['reviews']
            );
        }
        echo "</channel></rss>\n";
    }

    public function image(string $id): void
    {
        header('Content-Type: image/bmp');
        echo Thumbnail::of((int) $id);
    }

    private static function json(array $data): void
    {
        header('Content-Type: application/json');
        echo json_encode($data), "\n";
    }
}
