"""A WordPress on MariaDB, installed as its users do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.php.applications import Application, installed
from tests.php.peer import MYSQL, Site
from tests.tools import lacking

WORDPRESS = Path("/usr/share/wordpress")
WITH_WORDPRESS = (*MYSQL, "mbstring", "dom", "xml", "excimer")

WP_CONFIG = """<?php
define('DB_NAME', 'blog'); define('DB_USER', 'root'); define('DB_PASSWORD', ''); define('DB_HOST', 'localhost:%s');
define('DISABLE_WP_CRON', true); define('AUTOMATIC_UPDATER_DISABLED', true);
foreach (['AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE'] as $k) { define($k . '_KEY', $k); define($k . '_SALT', $k); }
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
"""
WP_PLUGIN = """<?php
namespace Shop;
function price() { $until = hrtime(true) + 150000000; while (hrtime(true) < $until) { md5('x'); } }
add_action('init', function () {
    register_post_type('product', ['public' => true, 'has_archive' => true, 'show_in_rest' => true]);
    register_taxonomy('brand', 'product', ['public' => true]);
});
add_action('wp_ajax_nopriv_cart_add', function () { wp_die('added', '', ['response' => 200]); });
add_action('admin_post_nopriv_order', function () { echo 'ordered'; });
add_action('quick', function () {});
add_action('nightly', function () { usleep(30000); wp_unschedule_hook('gone'); });
add_action('rest_api_init', function () {
    register_rest_route('shop/v1', '/cart/(?P<cart>[\\\\w-]+)/items/(?P<item>\\\\d+)', [
        'callback' => function () { return []; }, 'permission_callback' => '__return_true']);
});
add_action('template_redirect', function () {
    if (isset($_GET['call'])) { wp_remote_get($_GET['call'], ['timeout' => 5]); }
    if (isset($_GET['price'])) { price(); }
});
add_filter('wp_is_comment_flood', '__return_false', 99);
// Nobody outside is asked for news, updates and the like.
add_filter('pre_http_request', function ($said, $how, $url) {
    return strpos($url, '127.0.0.1') === false ? new \\WP_Error('away', 'away') : $said;
}, 10, 3);
"""
WP_INSTALL = """
define('WP_INSTALLING', true); $_SERVER['HTTP_HOST'] = 'example.org';
require '%s/wp-load.php'; require ABSPATH . 'wp-admin/includes/upgrade.php';
function wp_mail() { return true; }
wp_install('Shop', 'joe', 'joe@example.org', true, '', 'secret');
update_option('template', 'twentytwentythree'); update_option('stylesheet', 'twentytwentythree');
update_option('home', 'http://example.org'); update_option('siteurl', 'http://example.org');
update_option('permalink_structure', '/%%postname%%/'); update_option('admin_email_lifespan', time() + 99999999);
$p = wp_insert_post(['post_title' => 'p', 'post_status' => 'publish', 'post_type' => 'product']);
wp_set_object_terms($p, ['acme'], 'brand');
foreach (range(1, 12) as $i) {
    $id = wp_insert_post(['post_title' => "Post $i", 'post_status' => 'publish', 'post_author' => 1, 'post_content' =>
        str_repeat("<!-- wp:paragraph --><p>It's “post” $i, naïve 漢字.</p><!-- /wp:paragraph -->", 8),
        'post_date' => sprintf('2026-%%02d-%%02d 10:00:00', $i %% 9 + 1, $i), 'tags_input' => ['tag' . $i %% 3]]);
    wp_insert_comment(['comment_post_ID' => $id, 'comment_author' => 'Ann', 'comment_content' => "No. $i",
        'comment_author_email' => 'ann@example.org', 'comment_date' => '2026-10-01 10:00:00', 'comment_approved' => 1]);
}
flush_rewrite_rules(false);
echo $p;
"""
WP_SCHEDULE = """<?php require '%s/wp-load.php'; _set_cron_array([]);
wp_schedule_single_event(time() - 50, 'quick'); wp_schedule_single_event(time() - 40, 'nightly');
wp_schedule_single_event(time() - 30, 'quick', [1]); wp_schedule_single_event(time() + 900, 'gone');"""


class WordPress(Application):
    """With its default theme, permalinks, a plugin, posts, comments and a shop's post type."""

    varies: ClassVar[Mapping[bytes, bytes]] = {
        # Made anew for each page.
        rb"wp_nav_menu_[0-9a-f]+|wp-(?:container|elements|duotone)-[0-9a-f]{13}|modal-[0-9]+": b"ID",
        rb"((?:data-)?secret=(?:\\\\?\")?)[0-9A-Za-z]{10}\b": rb"\1SECRET",
        rb"^(Set-Cookie: wordpress_(?:logged_in_)?[0-9a-f]{32}=)[^;]*": rb"\1SESSION",
        rb"\b1[7-9][0-9]{8}\b|\b[0-9]{2}(?::[0-9]{2}){2} GMT|[0-9-]{10} [0-9]{2}(?::[0-9]{2}){2}": b"NOW",
        # Drawn by lot: passwords that it proposes, servers of pictures, how an address is hidden from robots.
        rb"data-pw=\"[^\"]*\"|<kbd>\w{8}</kbd>|\b[0-2]\.gravatar\.com|[\w.&#;]+(?:&#0?64;|@)[\w.&#;]+": b"LOT",
        rb"[0-9]+(?:\.[0-9]+)? (?:seconds?|mins?|hours?)\b": b"TIME",
    }

    def __init__(self, root: Path, database: str, site: Site) -> None:
        home = root / "wordpress"
        if not (WORDPRESS / "wp-load.php").exists():
            lacking("wordpress is missing on this machine (make test as root on Debian installs it)")
        shutil.copytree(WORDPRESS, home, ignore=shutil.ignore_patterns("wp-config.php", "languages", "*.map"))
        if not (home / "wp-content/themes/twentytwentythree/style.css").exists():
            lacking("wordpress-theme-twentytwentythree is missing on this machine")
        (home / "wp-config.php").write_text(WP_CONFIG % database)
        (home / "wp-content" / "mu-plugins").mkdir(parents=True)
        (home / "wp-content" / "mu-plugins" / "shop.php").write_text(WP_PLUGIN)
        create = root / "create.php"
        create.write_text(
            f"<?php (new mysqli(null, 'root', '', null, 0, '{database}'))->query('create database blog');"
        )
        installed([create], MYSQL)
        install = root / "install.php"
        install.write_text("<?php" + WP_INSTALL % home)
        self.product = installed([install], WITH_WORDPRESS)
        assert self.product.isdigit(), self.product
        super().__init__(root, home, site, WITH_WORDPRESS)

    def schedule(self) -> None:
        """What its wp-cron has to do: one quick job twice and a longer one."""
        script = self.root / "schedule.php"
        script.write_text(WP_SCHEDULE % self.home)
        installed([script], WITH_WORDPRESS)

    def log_in(self) -> dict[str, str]:
        """The cookies of its administrator."""
        form = b"log=joe&pwd=secret&wp-submit=Log+In&redirect_to=%2Fwp-admin%2F&testcookie=1"
        page = self.get("bare", "/wp-login.php", form, {"wordpress_test_cookie": "WP%20Cookie%20check"})
        said = [value.split(";")[0].split("=", 1) for name, value in page.headers if name == "Set-Cookie"]
        cookies = {name: value for name, value in said if value.strip() != "+"}
        assert any("logged_in" in name for name in cookies), page
        return cookies
