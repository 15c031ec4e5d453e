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

    /** Key => property, kind, and its bounds or choices (the first one is the default). */
    const KEYS = [
        'profiling_enabled' => ['enabled', 'flag'],
        'profiling_threshold_ms' => ['thresholdMs', 'number', 0, 3600000],
        'profiler' => ['profiler', 'choice', 'auto', 'excimer', 'none'],
        'xhprof_enabled' => ['xhprof', 'flag'],
        'xhprof_one_in' => ['xhprofOneIn', 'number', 0, 1e9],
        'xhprof_secret' => ['xhprofSecret', 'text'],
        'xhprof_flags' => ['xhprofFlags', 'list'],
        'profiler_period_ms' => ['periodMs', 'number', 1, 1000],
        'memory_tracking' => ['memory', 'flag'],
        'sql_capture_enabled' => ['sql', 'flag'],
        'sql_capture_method' => ['sqlMethod', 'choice', 'auto', 'pdo', 'both', 'phalcon', 'none'],
        'correlation_via_application_name' => ['applicationName', 'flag'],
        'correlation_via_sql_comment' => ['sqlComment', 'flag'],
        'sql_stack_trace' => ['sqlStack', 'flag'],
        'sql_stack_trace_limit' => ['sqlStackFrames', 'number', 0, 20],
        'request_metadata_enabled' => ['metadata', 'flag'],
        'listener_timeout_ms' => ['deadlineMs', 'number', 1, 1e9],
        'disk_buffer_enabled' => ['spoolEnabled', 'flag'],
        'disk_buffer_max_age' => ['spoolAgeS', 'number', 60, 1e9],
        'capture_get' => ['get', 'choice', 'values', 'names', 'off'],
        'capture_post' => ['post', 'choice', 'values', 'names', 'off'],
        'capture_headers' => ['headers', 'choice', 'values', 'names', 'off'],
        'client_ip' => ['clientIp', 'choice', 'full', 'network', 'off'],
        'release' => ['release', 'text'],
        'redact_keys' => ['redactKeys', 'list'],
    ];

    /** Known too: these three have a reader of their own below, and literals are removed whatever the last one says. */
    const OTHERS = ['daemon_socket_path', 'disk_buffer_path', 'project_name', 'sql_redact_sensitive'];

    public $enabled = false;
    public $thresholdMs = 500.0;
    public $profiler = 'auto';
    public $xhprof = false;
    public $xhprofOneIn = 100;
    public $xhprofSecret = '';
    public $xhprofFlags = ['memory'];
    public $periodMs = 10.0;
    public $memory = true;
    public $sql = true;
    public $sqlMethod = 'auto';
    public $applicationName = true;
    public $sqlComment = false;
    public $sqlStack = true;
    public $sqlStackFrames;
    public $metadata = true;
    public $socket = '/var/run/bitville-apm/daemon.sock';
    public $deadlineMs;
    public $spool = '/var/lib/bitville-apm/buffer/php';
    public $spoolEnabled = true;
    public $spoolAgeS;
    public $release = '';
    public $redactKeys = [];
    public $get = 'values';
    public $post = 'values';
    public $headers = 'values';
    public $clientIp = 'full';

    public function __construct()
    {
        // Not as defaults above: PHP would evaluate every default of the class anew in each request.
        $this->sqlStackFrames = Limits::STACK_FRAMES;
        $this->deadlineMs = Limits::DEADLINE_MS;
        $this->spoolAgeS = Limits::SPOOL_AGE_S;
    }

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
        // Over what is there, not over what could be: this runs in each request, and a file has few lines.
        foreach (array_intersect_key($values, self::KEYS) as $key => $value) {
            $how = self::KEYS[$key];
            $config->{$how[0]} = self::read($value, $how, $config->{$how[0]});
        }
        $config->sql = $config->sql && $config->sqlMethod !== 'none';
        $config->deadlineMs = min($config->deadlineMs, Limits::DEADLINE_MS);
        $config->spoolAgeS = min($config->spoolAgeS, Limits::SPOOL_AGE_S);
        $config->sqlStack = $config->sqlStack && $config->sqlStackFrames > 0;
        $config->place($values);
        return $config;
    }

    /** Project, socket and spool: the project may be a pool's own (PHP-08), and stands in both paths. */
    private function place(array $values): void
    {
        $this->socket = self::path($values, 'daemon_socket_path', $this->socket);
        // A socket of its own means a section of its own, and with it a spool of its own.
        $own = strpos($this->socket, '{project}') !== false;
        $this->spool = rtrim(self::path(
            $values,
            'disk_buffer_path',
            $own ? '/var/lib/bitville-apm/buffer/{project}' : $this->spool
        ), '/');
        if ($own || strpos($this->spool, '{project}') !== false) {
            $project = self::project(self::text($values, 'project_name', ''));
            $this->socket = str_replace('{project}', $project, $this->socket);
            $this->spool = str_replace('{project}', $project, $this->spool);
        }
    }

    /** What `{project}` stands for: nothing that could leave a directory. */
    private static function project(string $set): string
    {
        $own = defined('BITVILLE_APM_PROJECT')
            ? (string) constant('BITVILLE_APM_PROJECT')
            : self::environment('BITVILLE_APM_PROJECT');
        $project = $own !== '' ? $own : $set;
        return preg_match('/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/D', $project) === 1 ? $project : 'php';
    }

    /** Whether `sql_capture_method` takes the statements of a source. */
    public function takes(string $source): bool
    {
        $method = $this->sqlMethod;
        return $method === 'auto' || $method === $source
            || $method === 'both' && ($source === 'pdo' || $source === 'phalcon');
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
                self::take($values, $key, $value);
                continue;
            }
            $own = preg_match(self::OWN_SECTIONS, (string) $key) === 1;
            foreach ($value as $name => $inner) {
                $short = in_array(strtolower((string) $name), ['enabled', 'threshold_ms'], true);
                if (!is_array($inner) && ($own || !$short)) {
                    self::take($values, $name, $inner);
                }
            }
        }
        // The full names win over the first version's wherever both stand.
        foreach (array_intersect_key(self::ALIASES, $values) as $old => $new) {
            $values += [$new => $values[$old]];
        }
        return $values;
    }

    /** The first of a name counts. */
    private static function take(array &$values, $key, $value): void
    {
        $key = isset(self::KEYS[$key]) ? $key : strtolower(trim((string) $key));
        if (!isset($values[$key])) {
            // The raw scanner keeps single quotes.
            $values[$key] = trim((string) $value, " \t\r\n'\"");
        }
    }

    /** One value as its kind wants it; what makes no sense is the default. */
    private static function read(string $value, array $how, $default)
    {
        $lower = strtolower($value);
        switch ($how[1]) {
            case 'flag':
                if (in_array($lower, ['1', 'on', 'yes', 'true'], true)) {
                    return true;
                }
                return in_array($lower, ['0', 'off', 'no', 'false', 'none'], true) ? false : $default;
            case 'number':
                if (!is_numeric($value) || !is_finite((float) $value)) {
                    return $default;
                }
                $number = max($how[2], min($how[3], (float) $value));
                return is_int($default) ? (int) $number : $number;
            case 'choice':
                return in_array($lower, array_slice($how, 2), true) ? $lower : $default;
            case 'list':
                return preg_split('/[\s,|]+/', $value, -1, PREG_SPLIT_NO_EMPTY);
            default:
                return $value;
        }
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
