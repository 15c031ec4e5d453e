<?php
namespace BitvilleApm;

/**
 * The settings of profiling.ini: always complete, always within bounds, off unless switched on.
 *
 * A missing or broken file, an unknown key and a senseless value all mean the default, silently: a typing error in
 * a settings file must not be seen by visitors.
 */
final class Config
{
    const FILE = '/etc/bitville-apm/profiling.ini';

    /** Sections in which the first version's short names `enabled` and `threshold_ms` mean the whole client. */
    const OWN_SECTIONS = '/^(profil|bitville|apm|general|main|global)/i';

    const ALIASES = [
        'enabled' => 'profiling_enabled',
        'threshold_ms' => 'profiling_threshold_ms',
        'listener_socket' => 'daemon_socket_path',
        'listener_socket_path' => 'daemon_socket_path',
        'socket_path' => 'daemon_socket_path',
    ];

    public $enabled = false;
    public $thresholdMs = 500.0;
    public $profiler = 'auto';
    public $periodMs = 10.0;
    public $memory = true;
    public $sql = true;
    public $sqlStack = true;
    public $sqlStackFrames = Limits::STACK_FRAMES;
    public $metadata = true;
    public $socket = '/var/run/bitville-apm/daemon.sock';
    public $deadlineMs = Limits::DEADLINE_MS;
    public $spool = '/var/lib/bitville-apm/buffer/php';
    public $spoolEnabled = true;
    public $spoolAgeS = Limits::SPOOL_AGE_S;
    public $project = '';
    public $release = '';
    public $redactKeys = [];
    public $get = 'values';
    public $post = 'values';
    public $headers = 'values';
    public $clientIp = 'full';

    /** The settings in force for this request. */
    public static function load(): self
    {
        $path = self::environment('BITVILLE_APM_INI');
        // Sections are read as such, because the first version's `enabled` may stand in more than one of them.
        $ini = parse_ini_file($path === '' ? self::FILE : $path, true, INI_SCANNER_RAW);
        return self::of(is_array($ini) ? $ini : []);
    }

    /** @param array $ini what parse_ini_file gave, sections as nested arrays */
    public static function of(array $ini): self
    {
        $values = self::flat($ini);
        $config = new self();
        $config->enabled = self::flag($values, 'profiling_enabled', false);
        if (!$config->enabled) {
            return $config;
        }
        $config->thresholdMs = self::number($values, 'profiling_threshold_ms', 500, 0, 3600000);
        $config->profiler = self::choice($values, 'profiler', ['auto', 'excimer', 'none']);
        $config->periodMs = self::number($values, 'profiler_period_ms', 10, 1, 1000);
        $config->memory = self::flag($values, 'memory_tracking', true);
        $method = self::choice($values, 'sql_capture_method', ['auto', 'pdo', 'both', 'phalcon', 'none']);
        $config->sql = self::flag($values, 'sql_capture_enabled', true) && $method !== 'none' && $method !== 'phalcon';
        $config->sqlStackFrames = (int) self::number($values, 'sql_stack_trace_limit', Limits::STACK_FRAMES, 0, 20);
        $config->sqlStack = self::flag($values, 'sql_stack_trace', true) && $config->sqlStackFrames > 0;
        $config->metadata = self::flag($values, 'request_metadata_enabled', true);
        $config->deadlineMs = (int) self::number(
            $values,
            'listener_timeout_ms',
            Limits::DEADLINE_MS,
            1,
            Limits::DEADLINE_MS
        );
        $config->spoolEnabled = self::flag($values, 'disk_buffer_enabled', true);
        $config->spoolAgeS = (int) self::number(
            $values,
            'disk_buffer_max_age',
            Limits::SPOOL_AGE_S,
            60,
            Limits::SPOOL_AGE_S
        );
        $config->redactKeys = preg_split('/[\s,]+/', self::text($values, 'redact_keys', ''), -1, PREG_SPLIT_NO_EMPTY);
        $config->get = self::choice($values, 'capture_get', ['values', 'names', 'off']);
        $config->post = self::choice($values, 'capture_post', ['values', 'names', 'off']);
        $config->headers = self::choice($values, 'capture_headers', ['values', 'names', 'off']);
        $config->clientIp = self::choice($values, 'client_ip', ['full', 'network', 'off']);
        $config->release = self::text($values, 'release', '');
        $config->place($values);
        return $config;
    }

    /** Project, socket and spool: the project may be a pool's own (PHP-08), and stands in both paths. */
    private function place(array $values): void
    {
        $own = defined('BITVILLE_APM_PROJECT')
            ? (string) constant('BITVILLE_APM_PROJECT')
            : self::environment('BITVILLE_APM_PROJECT');
        $project = $own !== '' ? $own : self::text($values, 'project_name', '');
        // It becomes part of a path: nothing that could leave the directory.
        $this->project = preg_match('/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/D', $project) === 1 ? $project : '';
        $socket = self::path($values, 'daemon_socket_path', $this->socket);
        // A socket of its own means a section of its own, and with it a spool of its own.
        $shared = strpos($socket, '{project}') === false;
        $spool = self::path(
            $values,
            'disk_buffer_path',
            $shared ? $this->spool : '/var/lib/bitville-apm/buffer/{project}'
        );
        $name = $this->project === '' ? 'php' : $this->project;
        $this->socket = str_replace('{project}', $name, $socket);
        $this->spool = rtrim(str_replace('{project}', $name, $spool), '/');
    }

    /** An environment variable, also where getenv() is disabled; empty when unset. */
    public static function environment(string $name): string
    {
        $value = function_exists('getenv') ? getenv($name) : false;
        if ($value === false && isset($_SERVER[$name])) {
            $value = $_SERVER[$name];
        }
        return is_string($value) ? $value : '';
    }

    private static function flat(array $ini): array
    {
        $values = [];
        foreach ($ini as $key => $value) {
            if (!is_array($value)) {
                $values += self::named($key, $value);
                continue;
            }
            $own = preg_match(self::OWN_SECTIONS, (string) $key) === 1;
            foreach ($value as $name => $inner) {
                $short = in_array(strtolower((string) $name), ['enabled', 'threshold_ms'], true);
                if (!is_array($inner) && ($own || !$short)) {
                    $values += self::named($name, $inner);
                }
            }
        }
        // The full names win over the first version's wherever both stand.
        foreach (self::ALIASES as $old => $new) {
            if (isset($values[$old]) && !isset($values[$new])) {
                $values[$new] = $values[$old];
            }
        }
        return $values;
    }

    private static function named($key, $value): array
    {
        // The raw scanner keeps single quotes.
        return [strtolower(trim((string) $key)) => trim((string) $value, " \t\r\n'\"")];
    }

    private static function flag(array $values, string $key, bool $default): bool
    {
        $value = strtolower(isset($values[$key]) ? $values[$key] : '');
        if (in_array($value, ['1', 'on', 'yes', 'true'], true)) {
            return true;
        }
        return in_array($value, ['0', 'off', 'no', 'false', 'none'], true) ? false : $default;
    }

    private static function number(array $values, string $key, float $default, float $least, float $most): float
    {
        if (!isset($values[$key]) || !is_numeric($values[$key])) {
            return $default;
        }
        $value = (float) $values[$key];
        return is_finite($value) ? max($least, min($most, $value)) : $default;
    }

    /** One of the choices; the first is the default. */
    private static function choice(array $values, string $key, array $choices): string
    {
        $value = strtolower(isset($values[$key]) ? $values[$key] : '');
        return in_array($value, $choices, true) ? $value : $choices[0];
    }

    private static function text(array $values, string $key, string $default): string
    {
        return isset($values[$key]) && $values[$key] !== '' ? $values[$key] : $default;
    }

    private static function path(array $values, string $key, string $default): string
    {
        $value = self::text($values, $key, $default);
        // Absolute only: a relative path would mean another place in each application.
        return $value[0] === '/' && strpos($value, "\0") === false ? $value : $default;
    }
}
