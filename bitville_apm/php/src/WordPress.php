<?php
namespace BitvilleApm;

/**
 * What WordPress tells through its hooks (Application hands them over): calls to other hosts, and what it found the
 * request to be. Its statements are WordPressStatements'.
 */
final class WordPress
{
    /** Its kinds of templates, by the flag of the main query; the first that is set. */
    const TEMPLATES = [
        'is_robots' => 'robots', 'is_favicon' => 'favicon', 'is_embed' => 'embed', 'is_feed' => 'feed',
        'is_trackback' => 'trackback', 'is_404' => '404', 'is_search' => 'search', 'is_attachment' => 'attachment',
        'is_page' => 'page', 'is_single' => 'single', 'is_category' => 'category', 'is_tag' => 'tag',
        'is_tax' => 'taxonomy', 'is_author' => 'author', 'is_date' => 'date', 'is_post_type_archive' => 'archive',
        'is_home' => 'home', 'is_archive' => 'archive',
    ];

    /** URLs being called and since when, innermost last. */
    private static $calling = [];

    /** wp-cron: time by hook, the hook that runs, and since when. */
    private static $cron = [];
    private static $job;
    private static $jobNs;

    /** @param array $given the arguments of the hook */
    public static function hooked(string $hook, array $given): void
    {
        switch ($hook) {
            case 'pre_http_request':
                if ($given[0] === false && is_string($given[2])) {
                    self::$calling[] = [$given[2], hrtime(true)];
                }
                break;
            case 'http_api_debug':
                self::called((string) $given[4]);
                break;
            case 'pre_unschedule_event':
                self::cron((string) $given[2]);
                break;
            default:
                $route = self::route($hook, $given);
                if ($route !== null) {
                    Client::request()->endpoint()->setRoute($route);
                }
        }
    }

    /** After a call to another host; those that began within it and never said how they ended go with it. */
    private static function called(string $url): void
    {
        for ($i = count(self::$calling) - 1; $i >= 0; $i--) {
            if (self::$calling[$i][0] === $url) {
                Client::request()->calls()->to($url, (hrtime(true) - self::$calling[$i][1]) / 1e6);
                array_splice(self::$calling, $i);
                return;
            }
        }
    }

    /**
     * wp-cron.php takes each event off its list right before it runs it.
     *
     * While it runs the request bears its name; in the end that of the hook that took longest.
     */
    private static function cron(string $hook): void
    {
        // Not what an event itself takes off the list.
        $running = isset($GLOBALS['wp_current_filter']) ? $GLOBALS['wp_current_filter'] : [];
        if (!defined('DOING_CRON') || count($running) !== 1 || defined('WP_CLI')) {
            return;
        }
        self::jobEnded();
        self::$job = $hook;
        self::$jobNs = hrtime(true);
        Client::request()->endpoint()->setRoute('wp-cron ' . $hook);
    }

    private static function jobEnded(): void
    {
        if (self::$job !== null) {
            $before = isset(self::$cron[self::$job]) ? self::$cron[self::$job] : 0;
            self::$cron[self::$job] = $before + hrtime(true) - self::$jobNs;
        }
    }

    /** What the request is named in the end, where that is not the last name it had. */
    public static function atEnd(): ?string
    {
        self::jobEnded();
        self::$job = null;
        return self::$cron === [] ? null : 'wp-cron ' . array_search(max(self::$cron), self::$cron, true);
    }

    /** What WordPress found the request to be; nothing of the application's own code is called for it. */
    private static function route(string $hook, array $given): ?string
    {
        switch ($hook) {
            case 'wp':
                return self::template($given[0]);
            case 'current_screen':
                return isset($given[0]->id) ? 'wp-admin ' . $given[0]->id : null;
            case 'admin_init':
                return self::action();
            case 'rest_dispatch_request':
                // Only the request itself: others are made within a page, or for what this one embeds.
                return defined('REST_REQUEST') && Client::request()->endpoint()->route() === null && isset($given[2])
                    ? Client::request()->endpoint()->method() . ' /wp-json' . self::readable((string) $given[2])
                    : null;
            default:
                return Client::request()->endpoint()->route() === null ? 'xmlrpc ' . $given[0] : null;
        }
    }

    /** `front-page`, `single-product`, `taxonomy-brand` …, as WordPress calls its templates. */
    private static function template($wp): ?string
    {
        $query = isset($GLOBALS['wp_query']) ? $GLOBALS['wp_query'] : null;
        if (!is_object($query)) {
            return null;
        }
        if (!empty($query->query_vars['sitemap'])) {
            return 'sitemap';
        }
        if (isset($wp->query_vars) && $wp->query_vars === [] && empty($query->is_404)) {
            return 'front-page';
        }
        foreach (self::TEMPLATES as $flag => $name) {
            if (!empty($query->$flag)) {
                $kind = self::kind($flag, $query);
                return $kind === '' ? $name : $name . '-' . $kind;
            }
        }
        return null;
    }

    /** The post type or taxonomy; it is there, so WordPress has it registered. */
    private static function kind(string $flag, $query): string
    {
        if ($flag === 'is_single' && isset($query->posts[0]->post_type)) {
            return (string) $query->posts[0]->post_type;
        }
        if ($flag === 'is_post_type_archive') {
            $types = isset($query->query_vars['post_type']) ? (array) $query->query_vars['post_type'] : [];
            return (string) reset($types);
        }
        if ($flag === 'is_tax' && !empty($query->tax_query->queried_terms)) {
            return (string) key($query->tax_query->queried_terms);
        }
        return '';
    }

    /** The `action` of admin-ajax.php and admin-post.php, where there is one of that name: it is the visitor's word. */
    private static function action(): ?string
    {
        $script = basename(isset($_SERVER['SCRIPT_NAME']) ? (string) $_SERVER['SCRIPT_NAME'] : '', '.php');
        $kinds = ['admin-ajax' => 'wp_ajax_', 'admin-post' => 'admin_post_'];
        if (!isset($kinds[$script])) {
            return null;
        }
        // As WordPress merges them; PHP's own list of both would come into being by being named here.
        $given = $_POST + $_GET;
        $action = isset($given['action']) && is_string($given['action']) ? $given['action'] : '';
        $hooks = isset($GLOBALS['wp_filter']) ? $GLOBALS['wp_filter'] : [];
        foreach ([$kinds[$script], $kinds[$script] . 'nopriv_'] as $prefix) {
            // WordPress' own actions are functions of that name, hooked just before they run.
            if (isset($hooks[$prefix . $action]) || function_exists($prefix . strtr($action, '-', '_'))) {
                return $action === '' ? $script : $script . ' ' . $action;
            }
        }
        return $script;
    }

    /** `/wp/v2/posts/(?P<id>[\d]+)` as `/wp/v2/posts/{id}`. */
    private static function readable(string $pattern): string
    {
        $group = '/\(\?P?<(\w+)>((?:[^()\[\]\\\\]|\\\\.|\[(?:[^\]\\\\]|\\\\.)*+\]|\((?2)\))*+)\)/';
        return str_replace(['(?:', '(', ')?', ')'], '', (string) preg_replace($group, '{$1}', $pattern));
    }
}
