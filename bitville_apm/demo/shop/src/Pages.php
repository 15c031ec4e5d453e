<?php

declare(strict_types=1);

namespace Shop;

/** One method a page. */
final class Pages
{
    private \PDO $pdo;
    private Catalogue $catalogue;
    private Cart $cart;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
        $this->catalogue = new Catalogue($pdo);
        $this->cart = new Cart($pdo, $_COOKIE['visitor'] ?? 'nobody');
    }

    public function home(): void
    {
        $best = Html::products($this->catalogue->best_sellers());
        Html::page('The Demo Shop', "<h2>Best sellers</h2>$best", $this->catalogue->categories());
    }

    public function category(string $slug): void
    {
        $products = $this->catalogue->in_category($slug);
        Html::page(ucfirst($slug), Html::products($products), $this->catalogue->categories());
    }

    public function product(string $id): void
    {
        $product = $this->catalogue->product((int) $id);
        if ($product === null) {
            $this->not_found();
            return;
        }
        $form = sprintf(
            '<p>%s, %d in stock</p><form method="post" action="/cart"><input type="hidden" name="product" value="%d">'
            . '<input name="quantity" value="1" size="3"><button>Add to cart</button></form>',
            Html::price((int) $product['price']),
            $product['stock'],
            $product['id']
        );
        $others = Html::products($this->catalogue->neighbours($product));
        Html::page($product['name'], "$form<h2>Similar</h2>$others", $this->catalogue->categories());
    }

    public function search(): void
    {
        $words = (string) ($_GET['q'] ?? '');
        Html::page("Search: $words", Html::products($this->catalogue->like($words)));
    }

    public function cart(): void
    {
        $rows = [];
        foreach ($this->cart->lines() as $line) {
            $rows[] = [(string) $line['quantity'], $line['name'], Html::price($line['quantity'] * $line['price'])];
        }
        $pay = '<form method="post" action="/checkout"><button>Check out</button></form>';
        Html::page('Your cart', Html::table($rows) . $pay);
    }

    public function add_to_cart(): void
    {
        $product = $this->catalogue->product((int) ($_POST['product'] ?? 0));
        if ($product === null) {
            $this->not_found();
            return;
        }
        $this->cart->add((int) $product['id'], max(1, (int) ($_POST['quantity'] ?? 1)));
        header('Location: /cart', true, 303);
    }

    /** The slow page: a slow statement, then a slow function. */
    public function checkout(): void
    {
        $lines = $this->cart->lines();
        $amount = 0;
        foreach ($lines as $line) {
            $amount += $line['quantity'] * $line['price'];
        }
        $totals = (new Reports($this->pdo))->slow_totals($amount);
        $pdf = Invoice::of($lines, $totals);
        $this->cart->clear();
        Html::page('Thank you', sprintf('<p>%s. Your invoice has %d bytes.</p>', Html::price($amount), strlen($pdf)));
    }

    /** The N+1 page. */
    public function orders(string $customer): void
    {
        $rows = [];
        foreach ((new Orders($this->pdo))->history((int) $customer) as $line) {
            $rows[] = [date('Y-m-d', (int) $line['placed_at']), (string) $line['quantity'], $line['name']];
        }
        Html::page('Your orders', Html::table($rows));
    }

    /** The CPU burner. */
    public function recommendations(): void
    {
        $products = [];
        foreach (Recommend::best(Recommend::similarity_matrix(), 8) as $id) {
            $products[] = $this->catalogue->product($id);
        }
        Html::page('For you', Html::products($products));
    }

    public function stock(): void
    {
        header('Content-Type: application/json');
        echo json_encode(['low' => $this->catalogue->stock()]), "\n";
    }

    /** Nobody catches this one: a fatal error, as real shops have them. */
    public function voucher(): void
    {
        throw new \RuntimeException('the voucher service does not answer');
    }

    public function not_found(): void
    {
        http_response_code(404);
        Html::page('Not found', '<p>There is no such page.</p>');
    }
}
