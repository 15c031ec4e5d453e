<?php

declare(strict_types=1);

namespace Shop;

/** What people see. One method a page. */
final class Pages
{
    private const REPORT_MONTHS = 2;
    /** `secret` */
    private const PASSWORD = '$2y$09$UCHt4kuOCtgD9DATiM5/sehZ.z06wI9AYH4okbszoCUST3WGhOqCW';

    private \PDO $pdo;
    private Catalogue $catalogue;
    private Reviews $reviews;
    private Cart $cart;

    public function __construct(\PDO $pdo)
    {
        $this->pdo = $pdo;
        $this->reviews = new Reviews($pdo);
        $this->catalogue = new Catalogue($pdo);
        $this->cart = new Cart($pdo, $_COOKIE['visitor'] ?? 'nobody');
    }

    public function home(): void
    {
        $best = $this->listed($this->catalogue->best_sellers());
        Html::page('The Demo Shop', "<h2>Best sellers</h2>$best", $this->menu());
    }

    public function category(string $slug): void
    {
        Html::page(ucfirst($slug), $this->listed($this->catalogue->in_category($slug)), $this->menu());
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
        $others = $this->listed($this->catalogue->neighbours($product));
        Html::page($product['name'], "$form<h2>Similar</h2>$others", $this->menu());
    }

    public function search(): void
    {
        $words = (string) ($_GET['q'] ?? '');
        Html::page("Search: $words", $this->listed($this->catalogue->like($words)), $this->menu());
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

    /** A password is checked slowly on purpose. */
    public function login(): void
    {
        $right = password_verify((string) ($_POST['password'] ?? ''), self::PASSWORD);
        http_response_code($right ? 200 : 403);
        Html::page('Log in', $right ? '<p>Welcome back.</p>' : '<p>That was not it.</p>');
    }

    /** The page of the bookkeeper: `?months=2`, and nothing keeps him from asking for everything, `?detail=full`. */
    public function report(): void
    {
        $reports = new Reports($this->pdo);
        if (($_GET['detail'] ?? '') === 'full') {
            for ($times = max(1, (int) ($_GET['times'] ?? 1)); $times > 0; $times--) {
                $rows[] = array_map('strval', $reports->affinity());
            }
            Html::page('Affinity', Html::table($rows ?? []));
            return;
        }
        $rows = [];
        foreach ($reports->months((int) ($_GET['months'] ?? self::REPORT_MONTHS)) as $month) {
            $rows[] = [(string) $month['month'], (string) $month['customers'], (string) round((float) $month['mean'], 2)];
        }
        Html::page('Report', Html::table($rows));
    }

    /** A list of products; with the N+1 switched on, the page asks for each of them what else its buyers liked. */
    private function listed(array $products): string
    {
        $trouble = Trouble::of('n+1');
        if ($trouble !== null) {
            $this->reviews->also_liked_by_each($products, (int) $trouble['rounds']);
        }
        return Html::products($products);
    }

    /** The categories with their stars, worked out once a minute for all pages. */
    private function menu(): array
    {
        return Cache::remember('menu', function (): array {
            return $this->catalogue->menu();
        });
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
