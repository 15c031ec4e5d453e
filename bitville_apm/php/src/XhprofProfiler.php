<?php
namespace BitvilleApm;

/**
 * Counts every call with ext-xhprof or ext-tideways_xhprof: the deep mode, for the requests that were chosen for it.
 *
 * It doubles the time of a page, so nothing chooses it by itself. Never with their measurement of CPU, which asks the
 * kernel twice for each call.
 */
final class XhprofProfiler implements Profiler
{
    /** Extension => bits of its flags, by the names that the settings use. */
    const FLAGS = [
        'xhprof' => ['no_builtins' => 1, 'memory' => 4],
        'tideways_xhprof' => ['no_builtins' => 8, 'memory' => 6],
    ];

    private $extension;
    private $flags = 0;
    private $edges = [];
    private $running = false;

    /** @param string[] $flags `memory`, `no_builtins`; every other is passed over */
    public function __construct(string $extension, array $flags, bool $memory)
    {
        $this->extension = $extension;
        foreach (self::FLAGS[$extension] as $name => $bits) {
            // As the first version wrote them too: XHPROF_FLAGS_MEMORY.
            foreach ($flags as $flag) {
                $this->flags |= substr(strtolower($flag), -strlen($name)) === $name ? $bits : 0;
            }
        }
        if (!$memory) {
            $this->flags &= ~self::FLAGS[$extension]['memory'];
        }
    }

    /** The extension that is there, xhprof first; null without one. */
    public static function extension(): ?string
    {
        foreach (array_keys(self::FLAGS) as $extension) {
            if (function_exists($extension . '_enable') && function_exists($extension . '_disable')) {
                return $extension;
            }
        }
        return null;
    }

    /**
     * Whether a request was chosen by the header `X-Bitville-Profile: <unix time>.<hmac>`: signed with the secret of
     * the settings, and valid until that time, an hour ahead at most.
     */
    public static function asked(string $header, string $secret): bool
    {
        if ($secret === '' || preg_match('/^([0-9]{10})\.([0-9a-f]{64})$/D', $header, $found) !== 1) {
            return false;
        }
        $left = (int) $found[1] - time();
        return $left >= 0 && $left <= Limits::TRIGGER_S
            && function_exists('hash_hmac') && function_exists('hash_equals')
            && hash_equals(hash_hmac('sha256', 'bitville-profile ' . $found[1], $secret), $found[2]);
    }

    public function start(): void
    {
        $enable = $this->extension . '_enable';
        $enable($this->flags);
        $this->running = true;
    }

    public function stop(): void
    {
        if ($this->running) {
            $disable = $this->extension . '_disable';
            $edges = $disable();
            $this->running = false;
            $this->edges = is_array($edges) ? $edges : [];
        }
    }

    public function profile(int $bytes): ?array
    {
        $edges = array_filter($this->edges, [self::class, 'isApplications'], ARRAY_FILTER_USE_KEY);
        $this->edges = [];
        $functions = Limits::PRUNED_FUNCTIONS;
        while ($bytes < PHP_INT_MAX && $functions > 1 && strlen(Transport::line($edges)) > $bytes) {
            $edges = Stacks::heaviestEdges($edges, $functions);
            $functions = intdiv($functions, 2);
        }
        return $edges === [] ? null : ['kind' => 'xhprof', 'edges' => $edges];
    }

    public function discard(): void
    {
        $this->stop();
        $this->edges = [];
    }

    /** The client's own calls are not the request's; its classes that the application uses are. */
    private static function isApplications(string $edge): bool
    {
        return preg_match('/(?:^|>)BitvilleApm\\\\(?!Pdo|Mysqli)/', $edge) !== 1;
    }
}
