"""A request named by its route without a change to the application: real WordPress, Laravel, Symfony and MediaWiki.

Phalcon is an extension that Debian does not have: it is played by what its container promises.
"""

from __future__ import annotations

import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.php.mediawiki import MediaWiki
from tests.php.peer import Fpm, Site, fpm_binary
from tests.php.wordpress import WordPress
from tests.tools import require


def routes(lines: list[dict[str, Any]]) -> list[str | None]:
    """The names of the route lines, then that of the end record."""
    end = lines[-1]["request"].get("route")
    return [*(line["route"] for line in lines if line["t"] == "route"), end]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/", "front-page"),
        ("/?utm_source=x", "front-page"),
        ("/?p=1", "single-post"),
        ("/?page_id=2", "page"),
        ("/?post_type=product&p=PRODUCT", "single-product"),
        ("/?post_type=product", "archive-product"),
        ("/?s=joe", "search"),
        ("/?cat=1", "category"),
        ("/?author=1", "author"),
        ("/?m=2020", "404"),
        ("/?p=99999", "404"),
        ("/?feed=rss2", "feed"),
        ("/?rest_route=/wp/v2/posts/1", "GET /wp-json/wp/v2/posts/{id}"),
        ("/?rest_route=/wp/v2/product/PRODUCT", "GET /wp-json/wp/v2/product/{id}"),
        ("/?rest_route=/shop/v1/cart/a-9/items/5&_embed=1", "GET /wp-json/shop/v1/cart/{cart}/items/{item}"),
        ("/?rest_route=/nothing/here", None),
        ("/wp-admin/admin-ajax.php?action=cart_add", "admin-ajax cart_add"),
        ("/wp-admin/admin-ajax.php?action=heartbeat", "admin-ajax heartbeat"),
        ("/wp-admin/admin-ajax.php?action=scanner_123", "admin-ajax"),
        ("/wp-admin/admin-post.php?action=order", "admin-post order"),
    ],
)
def test_wordpress(blog: WordPress, uri: str, name: str | None) -> None:
    """PHP-15: template kind and post type, REST route, action: told as soon as WordPress knows, and in the record."""
    _, lines = blog.told(uri.replace("PRODUCT", blog.product))
    assert routes(lines) == ([name, name] if name else [None])


def test_xmlrpc_of_wordpress(blog: WordPress) -> None:
    """PHP-15: xmlrpc.php is named by the method called, not by one that a visitor made up."""
    for called, name in (("demo.sayHello", None), ("wp.getTaxonomies", "xmlrpc wp.getTaxonomies"), ("no.such", None)):
        text = "".join(f"<param><value><string>{word}</string></value></param>" for word in ("1", "joe", "secret"))
        body = f'<?xml version="1.0"?><methodCall><methodName>{called}</methodName><params>{text}</params></methodCall>'
        _, lines = blog.told("/xmlrpc.php", body.encode())
        assert routes(lines)[-1] == name, called


def test_cron_of_wordpress(blog: WordPress) -> None:
    """PHP-15: while a hook of wp-cron runs the request bears its name; in the end that of the longest one."""
    blog.schedule()
    said = routes(blog.told("/wp-cron.php")[1])
    assert [name for name in said if name in ("wp-cron quick", "wp-cron nightly")] == [
        "wp-cron quick",
        "wp-cron nightly",
        "wp-cron quick",
        "wp-cron nightly",
    ]
    assert "wp-cron gone" not in said


def test_calls_of_wordpress(blog: WordPress) -> None:
    """PHP-16: each call of the WordPress HTTP API by its host with its time, failures too; its path is not sent."""
    url = urllib.parse.quote("http://joe:geheim@127.0.0.1:9/secret-path?token=geheim")
    _, lines = blog.told(f"/?call={url}")
    (call,) = lines[-1]["calls"]
    assert (call["kind"], call["target"], call["n"]) == ("http", "127.0.0.1", 1)
    assert 0 < call["ms"] < lines[-1]["ms"]
    assert "geheim" not in str(lines)


# --- Frameworks --------------------------------------------------------------------------------------------------

SHARE = Path("/usr/share/php")


@pytest.fixture(scope="module")
def pool() -> Iterator[Fpm]:
    """A pool with what frameworks need of PHP."""
    require("php", fpm_binary())
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        server = Fpm(Path(root), extensions=("mbstring", "ctype", "iconv", "curl", "excimer"), children=2)
        try:
            yield server
        finally:
            server.stop()


SLOWLY = "$until = microtime(true) + 1.3; while (microtime(true) < $until) { usleep(5000); }"

LARAVEL = """
require '/usr/share/php/Illuminate/Events/autoload.php'; require '/usr/share/php/Illuminate/Routing/autoload.php';
use Illuminate\\Container\\Container;
$app = new Container; Container::setInstance($app);
$events = new Illuminate\\Events\\Dispatcher($app);
$app->instance('router', $router = new Illuminate\\Routing\\Router($events, $app));
$router->get('/', function () { return 'home'; });
$router->post('orders/{order}/lines', function ($order) { return 'line'; });
$router->get('slow/{n}', function () { SLOWLY return 'slow'; });
try { echo $router->dispatch(Illuminate\\Http\\Request::capture())->getContent(); } catch (Throwable $e) { echo '404'; }
""".replace("SLOWLY", SLOWLY)

SYMFONY = """
namespace Symfony\\Component\\Runtime\\Runner\\Symfony {
    final class HttpKernelRunner {
        private $kernel; private $request;
        function __construct($kernel, $request) { $this->kernel = $kernel; $this->request = $request; }
        function run() { $this->kernel->handle($this->request)->send(); }
    }
}
namespace {
require '/usr/share/php/Symfony/Component/HttpKernel/autoload.php';
require '/usr/share/php/Symfony/Component/Routing/autoload.php';
use Symfony\\Component\\{HttpFoundation\\Request, HttpFoundation\\RequestStack, HttpFoundation\\Response};
use Symfony\\Component\\HttpKernel\\{HttpKernel, HttpKernelInterface, EventListener\\RouterListener};
use Symfony\\Component\\Routing\\{Route, RouteCollection, RequestContext, Matcher\\UrlMatcher};
$routes = new RouteCollection;
$routes->add('blog_show', new Route('/blog/{slug}', ['_controller' => function () { return new Response('post'); }]));
$routes->add('slow', new Route('/slow', ['_controller' => function () use (&$kernel) {
    return $kernel->handle(Request::create('/fragment'), HttpKernelInterface::SUB_REQUEST); }]));
$routes->add('part', new Route('/fragment', ['_controller' => function () { SLOWLY return new Response('part'); }]));
$stack = new RequestStack;
$events = new Symfony\\Component\\EventDispatcher\\EventDispatcher;
$events->addSubscriber(new RouterListener(new UrlMatcher($routes, new RequestContext), $stack));
$kernel = new HttpKernel($events, new Symfony\\Component\\HttpKernel\\Controller\\ControllerResolver, $stack);
try { START } catch (Throwable $e) { http_response_code(404); }
}
""".replace("SLOWLY", SLOWLY)
RUNNER = "Symfony\\Component\\Runtime\\Runner\\Symfony\\HttpKernelRunner"
RUNTIME = f"(new {RUNNER}($kernel, Request::createFromGlobals()))->run();"
CLASSIC = "$request = Request::createFromGlobals(); $kernel->handle($request)->send();"

PHALCON = """
namespace Phalcon\\Di { class Di {
    private static $default; private $services;
    function __construct($services) { $this->services = $services; self::$default = $this; }
    static function getDefault() { return self::$default; }
    function has($name) { return isset($this->services[$name]); }
    function getShared($name) { return $this->services[$name]; } } }
namespace {
class Route { function getPattern() { return 'PATTERN'; } }
class ShopController {}
class Router { function getMatchedRoute() { return 'PATTERN' === '' ? null : new Route; } }
class Dispatcher {
    function getControllerName() { return 'shop'; } function getActionName() { return 'show'; }
    function getHandlerClass() { return 'ShopController'; } }
new Phalcon\\Di\\Di(['router' => new Router, 'dispatcher' => new Dispatcher]);
}
"""


def page(site: Site, fpm: Fpm, code: str, uri: str, **how: Any) -> tuple[bytes, list[dict[str, Any]]]:
    """What a page answers that lies in `public/` of its application, and its lines."""
    (site.root / "public").mkdir(exist_ok=True)
    (site.root / "public" / "index.php").write_text("<?php require '../app.php';")
    with site.agent() as agent:
        script = str(site.root / "public" / "index.php")
        answer = fpm.get(site, code, uri, SCRIPT_FILENAME=script, SCRIPT_NAME="/index.php", **how)
        agent.one("end")
        return answer.body, list(agent.lines)


@pytest.mark.parametrize(
    ("method", "uri", "body", "name"),
    [
        ("GET", "/", b"home", "GET /"),
        ("POST", "/orders/42/lines", b"line", "POST /orders/{order}/lines"),
        ("GET", "/slow/7", b"slow", "GET /slow/{n}"),
        ("GET", "/orders/42/nothing", b"404", None),
    ],
)
def test_laravel(site: Site, pool: Fpm, method: str, uri: str, body: bytes, name: str | None) -> None:
    """PHP-15: Laravel's route as its routes file has it; told after a second while the request still runs."""
    if not (SHARE / "Illuminate/Routing/autoload.php").exists():
        require("php-illuminate-routing")
    answer, lines = page(site, pool, LARAVEL, uri, method=method)
    assert (answer, set(routes(lines))) == (body, {name})
    if uri == "/slow/7":
        assert [line["t"] for line in lines] == ["begin", "route", "end"]


@pytest.mark.parametrize("start", [RUNTIME, CLASSIC], ids=["runtime", "classic"])
@pytest.mark.parametrize(
    ("uri", "said"), [("/blog/a-post", {"GET blog_show"}), ("/slow", {"GET slow"}), ("/nothing", {None})]
)
def test_symfony(site: Site, pool: Fpm, start: str, uri: str, said: set[str | None]) -> None:
    """PHP-15: Symfony's route name, of the request and not of its fragments, with both front controllers."""
    if not (SHARE / "Symfony/Component/HttpKernel/autoload.php").exists():
        require("php-symfony-http-kernel")
    kernel = site.root / "vendor" / "symfony" / "http-kernel" / "HttpKernel.php"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    _, lines = page(site, pool, SYMFONY.replace("START", start), uri)
    assert set(routes(lines)) == said
    if uri == "/slow":
        assert [line["t"] for line in lines] == ["begin", "route", "end"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("/shop/{id}", "GET /shop/{id}"), ("#^/([\\w]+)/([\\w]+)$#u", "GET shop/show"), ("", None)],
)
def test_phalcon(site: Site, pool: Fpm, pattern: str, name: str | None) -> None:
    """PHP-15: the pattern of Phalcon's route; where that is one for all, controller and action."""
    _, lines = page(site, pool, PHALCON.replace("PATTERN", pattern), "/shop/1")
    assert routes(lines) == [name]


def test_a_name_by_hand_wins(site: Site, pool: Fpm) -> None:
    """PHP-10, PHP-15: `bitville_apm_set_endpoint()` is not overwritten by what a framework says."""
    code = PHALCON.replace("PATTERN", "/shop/{id}").replace(
        "new Phalcon", "bitville_apm_set_endpoint('mine'); new Phalcon"
    )
    assert routes(page(site, pool, code, "/shop/1")[1]) == ["mine", "mine"]


# --- MediaWiki ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/index.php?title=Main_Page", "view"),
        ("/index.php?title=Main_Page&action=edit", "edit"),
        ("/index.php?title=Main_Page&action=history", "history"),
        ("/index.php?title=Special:RecentChanges", "Special:Recentchanges"),
        ("/index.php?title=Special:Made_Up/by_a_scanner", None),
        ("/api.php?action=query&format=json&titles=Main_Page", "api query"),
        ("/api.php?action=made_up&format=json", None),
        ("/load.php?modules=startup&only=scripts", None),
    ],
)
def test_mediawiki(wiki: MediaWiki, uri: str, name: str | None) -> None:
    """PHP-15: action, special page by its own name, module of the API; nothing that a visitor made up."""
    page, lines = wiki.told(uri)
    assert routes(lines) == [name], page.body[:500]


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ("class SpecialPage { protected $mName = 'Export'; WORK } (new SpecialPage)->run();", "Special:Export"),
        pytest.param(
            "class ApiBase { private $mModuleName = 'query'; WORK } class Q extends ApiBase {} (new Q)->run();",
            "api query",
            marks=pytest.mark.full,
        ),
    ],
)
def test_mediawiki_while_it_runs(site: Site, pool: Fpm, classes: str, name: str) -> None:
    """PHP-15: after a second the special page that runs, or the module of the API, is told from the stack."""
    code = "define('MEDIAWIKI', true); " + classes.replace("WORK", "function run() { " + SLOWLY + " }")
    assert routes(page(site, pool, code, "/index.php")[1]) == [name, name]
