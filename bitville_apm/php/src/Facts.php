<?php
namespace BitvilleApm;

/** What $_SERVER and its relatives say about the request: what was asked, by whom, of which release. */
final class Facts
{
    /** The arrays as they were at the start: frameworks rewrite them (WordPress adds slashes). */
    private $server;
    private $get;
    private $post;
    private $files;
    private $config;
    private $redactor;

    /** What who() gave. */
    private $who;

    public function __construct(Config $config, Redactor $redactor)
    {
        $this->config = $config;
        $this->redactor = $redactor;
        // Copied on write only: this costs nothing until the application changes them.
        $this->server = isset($_SERVER) && is_array($_SERVER) ? $_SERVER : [];
        $this->get = isset($_GET) && is_array($_GET) ? $_GET : [];
        $this->post = isset($_POST) && is_array($_POST) ? $_POST : [];
        $this->files = isset($_FILES) && is_array($_FILES) ? $_FILES : [];
    }

    public static function commandLine(): bool
    {
        return PHP_SAPI === 'cli' || PHP_SAPI === 'phpdbg';
    }

    /** Whether this is a request at all, and not the preloading of a pool. */
    public static function present(): bool
    {
        return self::commandLine() || isset($_SERVER['REQUEST_METHOD']);
    }

    /** Unix seconds when PHP took the request. */
    public function startedAt(): float
    {
        $at = isset($this->server['REQUEST_TIME_FLOAT']) ? $this->server['REQUEST_TIME_FLOAT'] : 0.0;
        // Not by way of text: PHP takes microseconds to print a float, and this is before every page.
        return is_float($at) ? $at : (float) $this->get('REQUEST_TIME_FLOAT');
    }

    public function method(): string
    {
        if (self::commandLine()) {
            return 'CLI';
        }
        $method = $this->get('REQUEST_METHOD');
        if ($method === 'GET' || $method === 'POST') {
            return $method;
        }
        $method = strtoupper(substr($method, 0, 20));
        return preg_match('/^[A-Z][A-Z_-]*$/D', $method) === 1 ? $method : 'OTHER';
    }

    public function uri(): string
    {
        if (!self::commandLine()) {
            $uri = $this->get('REQUEST_URI');
            return $this->redactor->uri($uri !== '' ? $uri : $this->get('SCRIPT_NAME'), $this->config->get !== 'off');
        }
        $arguments = isset($this->server['argv']) && is_array($this->server['argv']) ? $this->server['argv'] : [];
        $script = isset($arguments[0]) ? (string) $arguments[0] : $this->get('SCRIPT_NAME');
        $word = isset($arguments[1]) ? (string) $arguments[1] : '';
        // A word that could be a command, never a value: `artisan queue:work` and not `import.php 4711`.
        $isCommand = preg_match('/^[A-Za-z][A-Za-z0-9:._-]{0,63}$/D', $word) === 1;
        return $this->redactor->text($isCommand ? $script . ' ' . $word : $script);
    }

    /** Address, class of the user agent and release: what both lines of a request say of it. */
    public function who(): array
    {
        if ($this->who === null) {
            $this->who = ['client' => $this->client(), 'agent' => $this->agent(), 'release' => $this->release()];
        }
        return $this->who;
    }

    public function client(): ?string
    {
        $address = $this->get('REMOTE_ADDR');
        if ($this->config->clientIp === 'off' || $address === '' || strlen($address) > 60) {
            return null;
        }
        return $this->config->clientIp === 'network' ? self::network($address) : $address;
    }

    /** The /24 or /48 an address is in, as an address. */
    public static function network(string $address): ?string
    {
        $bytes = inet_pton($address);
        if ($bytes === false) {
            return null;
        }
        $kept = strlen($bytes) === 4 ? 3 : 6;
        $network = inet_ntop(str_pad(substr($bytes, 0, $kept), strlen($bytes), "\0"));
        return $network === false ? null : $network;
    }

    public function agent(): ?string
    {
        return UserAgent::name($this->get('HTTP_USER_AGENT'));
    }

    /** What is deployed: the settings, else the release directory that the document root is, or leads to (PHP-18). */
    public function release(): ?string
    {
        $release = $this->config->release;
        if ($release === '') {
            $release = Config::environment('BITVILLE_APM_RELEASE');
        }
        if ($release === '' && defined('BITVILLE_APM_RELEASE')) {
            $release = (string) constant('BITVILLE_APM_RELEASE');
        }
        if ($release === '') {
            $release = self::linked($this->get('DOCUMENT_ROOT'));
        }
        return $release === '' ? null : substr($release, 0, 100);
    }

    /**
     * `/srv/current/public` leading to `/srv/releases/42/public`: `42`. A server that resolves links itself
     * (nginx's `$realpath_root`) hands the latter over, and is believed at once; PHP would resolve one anew after
     * `realpath_cache_ttl` only, just as it goes on with the old code for so long.
     */
    private static function linked(string $root): string
    {
        $root = rtrim($root, '/');
        if (preg_match('#/releases/([^/]+)#', $root, $found) === 1) {
            return $found[1];
        }
        $real = $root === '' ? false : realpath($root);
        if ($real === false || $real === $root) {
            return '';
        }
        $named = explode('/', $root);
        $found = explode('/', $real);
        while ($named !== [] && $found !== [] && end($named) === end($found)) {
            array_pop($named);
            array_pop($found);
        }
        return $found === [] ? '' : (string) end($found);
    }

    /** The request of a whole record (PHP-04). */
    public function request(): array
    {
        if (!$this->config->metadata) {
            return [];
        }
        $out = [];
        if ($this->config->get !== 'off') {
            $out['query'] = (object) $this->redactor->map($this->get, $this->config->get);
        }
        if ($this->config->headers !== 'off') {
            $out['headers'] = (object) $this->redactor->headers($this->headers(), $this->config->headers);
        }
        if ($this->config->post !== 'off') {
            $out['post'] = (object) $this->redactor->map($this->post, $this->config->post);
            $out['files'] = (object) $this->redactor->map($this->uploads());
        }
        return $out;
    }

    /** The answer, as far as PHP made it. @param bool $headers whether its headers are wanted */
    public function response(bool $headers, bool $fatal): array
    {
        $out = [];
        $status = function_exists('http_response_code') ? http_response_code() : false;
        if (is_int($status)) {
            // A fatal error with display_errors on leaves 200 behind.
            $out['status'] = $fatal && $status < 500 ? 500 : $status;
        }
        if ($headers && $this->config->metadata && $this->config->headers !== 'off' && !self::commandLine()) {
            $sent = [];
            foreach (headers_list() as $line) {
                $parts = explode(':', $line, 2);
                $sent[$parts[0]] = isset($parts[1]) ? ltrim($parts[1]) : '';
            }
            $out['headers'] = (object) $this->redactor->headers($sent, $this->config->headers);
        }
        return $out;
    }

    public function script(): string
    {
        return $this->get('SCRIPT_FILENAME');
    }

    /** Milliseconds between the web server and PHP, from X-Request-Start in any of its units; null without one. */
    public function queueMs(): ?float
    {
        $header = $this->get('HTTP_X_REQUEST_START');
        if (preg_match('/^(?:t=)?([0-9]{10,16}(?:\.[0-9]+)?)$/D', $header, $found) !== 1) {
            return null;
        }
        $at = (float) $found[1];
        // Seconds, milliseconds or microseconds, by their size.
        $seconds = $at > 1e14 ? $at / 1e6 : ($at > 1e11 ? $at / 1e3 : $at);
        $ms = ($this->startedAt() - $seconds) * 1000;
        return $ms >= 0 && $ms < 600000 ? round($ms, 3) : null;
    }

    /** The header that asks for a deep profile. */
    public function trigger(): string
    {
        return $this->get('HTTP_X_BITVILLE_PROFILE');
    }

    public function traceparent(): ?string
    {
        $header = $this->get('HTTP_TRACEPARENT');
        return preg_match('/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/D', $header) === 1 ? $header : null;
    }

    /**
     * Whether the body is larger than PHP takes, and so still unread: fastcgi_finish_request() would read it away
     * eight bytes at a time, 0.1 s a megabyte. PHP's own end does it at once.
     */
    public function refused(): bool
    {
        $most = self::bytes('post_max_size');
        return $most > 0 && (int) $this->get('CONTENT_LENGTH') > $most;
    }

    /** A size among PHP's settings, `8M` as a number. */
    public static function bytes(string $setting): int
    {
        $text = trim((string) ini_get($setting));
        $units = ['k' => 1024, 'm' => 1048576, 'g' => 1073741824];
        $unit = strtolower(substr($text, -1));
        return (int) $text * (isset($units[$unit]) ? $units[$unit] : 1);
    }

    /** Whether there is room below memory_limit for our own work: it must never be what exhausts it. */
    public static function hasRoom(): bool
    {
        $bytes = self::bytes('memory_limit');
        // Real usage: what is free within it may be in pieces too small for us, and PHP takes more 2 MB at a time.
        return $bytes <= 0 || $bytes - memory_get_usage(true) > Limits::HEADROOM_BYTES;
    }

    private function headers(): array
    {
        $out = [];
        foreach ($this->server as $name => $value) {
            $name = (string) $name;
            $content = $name === 'CONTENT_TYPE' || $name === 'CONTENT_LENGTH';
            if (is_string($value) && $value !== '' && ($content || strncmp($name, 'HTTP_', 5) === 0)) {
                $name = strtolower(strtr($content ? $name : substr($name, 5), '_', '-'));
                $out[ucwords($name, '-')] = $value;
            }
        }
        return $out;
    }

    /** Uploads by field: name, type and size of one, count and size of several. */
    private function uploads(): array
    {
        $out = [];
        foreach ($this->files as $field => $file) {
            if (!is_array($file) || !isset($file['name'])) {
                continue;
            }
            if (!is_array($file['name'])) {
                $out[$field] = array_intersect_key($file, ['name' => 1, 'type' => 1, 'size' => 1]);
                continue;
            }
            $count = $bytes = 0;
            array_walk_recursive($file['name'], static function () use (&$count) {
                $count++;
            });
            $sizes = isset($file['size']) ? (array) $file['size'] : [];
            array_walk_recursive($sizes, static function ($size) use (&$bytes) {
                $bytes += (int) $size;
            });
            $out[$field] = ['count' => $count, 'size' => $bytes];
        }
        return $out;
    }

    /** A value of `$_SERVER`; empty where there is none. */
    public function get(string $name): string
    {
        return isset($this->server[$name]) && is_scalar($this->server[$name]) ? (string) $this->server[$name] : '';
    }
}
