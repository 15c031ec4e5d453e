<?php
namespace BitvilleApm;

/** Where a request ran: host, PHP and its pool, web server; and how PHP's cache of programs does there (PHP-18). */
final class Server
{
    public static function facts(Facts $facts): array
    {
        return array_filter([
            'hostname' => function_exists('gethostname') ? (string) gethostname() : '',
            'php' => PHP_VERSION,
            'sapi' => PHP_SAPI,
            'pool' => self::pool(),
            'software' => $facts->get('SERVER_SOFTWARE'),
            'address' => $facts->get('SERVER_ADDR'),
            'document_root' => $facts->get('DOCUMENT_ROOT'),
            'script' => $facts->get('SCRIPT_FILENAME'),
            'client' => Client::VERSION,
        ], 'strlen');
    }

    /**
     * The name of this worker's FPM pool, from the title that FPM gives its process.
     *
     * Never by fpm_get_status(): it reads the slots of all workers, and PHP crashes in it while one of them is being
     * replaced.
     */
    private static function pool(): string
    {
        if (PHP_SAPI !== 'fpm-fcgi' || !function_exists('file_get_contents')) {
            return '';
        }
        $title = rtrim((string) file_get_contents('/proc/self/cmdline'), " \0");
        return strpos($title, 'php-fpm: pool ') === 0 ? substr($title, 14) : '';
    }

    /** How full OPcache is and how well it serves; null where it is off or may not be asked. */
    public static function opcache(): ?array
    {
        $found = function_exists('opcache_get_status') ? opcache_get_status(false) : false;
        if (!is_array($found) || !isset($found['memory_usage'], $found['opcache_statistics'])) {
            return null;
        }
        $counts = $found['opcache_statistics'];
        return [
            'used_bytes' => $found['memory_usage']['used_memory'],
            'free_bytes' => $found['memory_usage']['free_memory'],
            'wasted_bytes' => $found['memory_usage']['wasted_memory'],
            'scripts' => $counts['num_cached_scripts'],
            'hit_rate' => round($counts['opcache_hit_rate'], 2),
            'restarts' => $counts['oom_restarts'] + $counts['hash_restarts'] + $counts['manual_restarts'],
        ];
    }
}
