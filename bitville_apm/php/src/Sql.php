<?php
namespace BitvilleApm;

/**
 * The statements of one request, from whatever source saw them.
 *
 * Every one is counted. The first 500 are kept one by one, while the budget allows; others are added to an earlier
 * execution of the same text, or only counted. Literals are taken out when the record is built, after the response.
 */
final class Sql
{
    /** Where a file is not the application's own. */
    const LIBRARY = '#/(?:vendor|rdbms|Illuminate|Doctrine|wp-includes/(?:class-wpdb|wp-db|class-wp-hook|plugin)\.php)(?:/|$)#';

    const FAILED_REDACTION = '[SQL REDACTION FAILED]';

    private $config;

    /** hrtime of the request's start, for `at`. */
    private $startNs;
    private $budget;

    private $n = 0;
    private $byDriver = [];
    private $ns = 0;
    private $failed = 0;
    private $slow = 0;

    private $kept = [];
    private $bytes = 0;

    /** Text => index in $kept, for executions beyond the first 500. */
    private $repeated = [];
    private $truncated = false;

    private $connections = [];
    private $connectionIndex = [];

    public function __construct(Config $config, int $startNs, Budget $budget)
    {
        $this->config = $config;
        $this->startNs = $startNs;
        $this->budget = $budget;
    }

    /** @param array $facts driver, host, port, database, user; @return int what add() takes for it */
    public function connection(array $facts): int
    {
        $key = implode("\0", $facts);
        if (!isset($this->connectionIndex[$key])) {
            $this->connectionIndex[$key] = count($this->connections);
            $this->connections[] = $facts;
        }
        return $this->connectionIndex[$key];
    }

    /**
     * Counts one execution.
     *
     * @param int $startNs hrtime when it began
     * @param int $ns how long it took
     * @param int|null $variables number of bound values; the values themselves are never taken
     * @param string[]|null $stack the frames that led here, where the source knows them; else they are looked up
     */
    public function add(
        string $sql,
        int $startNs,
        int $ns,
        bool $failed,
        int $connection,
        ?int $variables,
        ?array $stack = null
    ): void {
        $began = hrtime(true);
        $slow = $ns >= Limits::SLOW_MS * 1000000;
        $this->n++;
        $driver = isset($this->connections[$connection]['driver']) ? $this->connections[$connection]['driver'] : '';
        $this->byDriver[$driver] = $this->ofDriver($driver) + 1;
        $this->ns += $ns;
        $this->failed += (int) $failed;
        $this->slow += (int) $slow;
        $length = min(strlen($sql), Limits::STATEMENT_BYTES);
        $room = count($this->kept) < Limits::QUERIES && $this->bytes + $length <= Limits::QUERIES_BYTES;
        if ($room && $this->budget->allows('sql')) {
            $this->kept[] = [
                'sql' => $this->held($sql),
                'ms' => $ns / 1e6,
                'at' => ($startNs - $this->startNs) / 1e6,
                'n' => 1,
                'c' => $connection,
                'failed' => (int) $failed,
                'vars' => $variables,
                'stack' => $this->config->sqlStack ? $this->framesOf($stack, $slow) : null,
            ];
            if ($this->repeated !== []) {
                $this->repeated[$connection . ':' . end($this->kept)['sql']] = count($this->kept) - 1;
            }
        } else {
            $this->repeat($sql, $ns, $failed, $connection);
        }
        $this->budget->spend(hrtime(true) - $began);
    }

    /** Counts executions that were seen by their number alone. */
    public function count(int $executions): void
    {
        $this->n += $executions;
        $this->truncated = true;
    }

    /** Executions on connections of one driver so far. */
    public function ofDriver(string $driver): int
    {
        return isset($this->byDriver[$driver]) ? $this->byDriver[$driver] : 0;
    }

    /** Beyond the bound: added up with an earlier execution of the same text, else only counted. */
    private function repeat(string $sql, int $ns, bool $failed, int $connection): void
    {
        if ($this->repeated === []) {
            foreach ($this->kept as $i => $entry) {
                $this->repeated[$entry['c'] . ':' . $entry['sql']] = $i;
            }
        }
        $key = $connection . ':' . substr($sql, 0, Limits::STATEMENT_BYTES);
        if (!isset($this->repeated[$key])) {
            $this->truncated = true;
            return;
        }
        $entry = &$this->kept[$this->repeated[$key]];
        $entry['n']++;
        $entry['ms'] += $ns / 1e6;
        $entry['failed'] += (int) $failed;
    }

    /** Of a slow statement always; the budget is for those of all others. */
    private function framesOf(?array $known, bool $slow): ?array
    {
        if ($known !== null) {
            return array_slice($known, 0, $this->config->sqlStackFrames);
        }
        return $slow || $this->budget->allows('sql_stack', 0.5, Limits::BUDGET_STACK_US) ? $this->stack() : null;
    }

    /** The text as kept; the same text is held once however often it runs. */
    private function held(string $sql): string
    {
        if (strlen($sql) > Limits::STATEMENT_BYTES) {
            $sql = substr($sql, 0, Limits::STATEMENT_BYTES);
        }
        $this->bytes += strlen($sql);
        return $sql;
    }

    /**
     * The application's frames that led here, innermost first, without arguments: without those of its libraries,
     * but for the innermost ones where there is nothing else.
     */
    private function stack(): array
    {
        $most = $this->config->sqlStackFrames;
        $frames = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, $most + Limits::STACK_LIBRARIES);
        $own = $all = [];
        foreach ($frames as $i => $frame) {
            if (!isset($frame['file']) || strncmp($frame['file'], __DIR__, strlen(__DIR__)) === 0) {
                continue;
            }
            // A frame says where a call was made; the function that made it is that of the next frame.
            $by = isset($frames[$i + 1]) ? $frames[$i + 1] : ['function' => ''];
            $name = (isset($by['class']) ? $by['class'] . $by['type'] : '') . $by['function'];
            $line = rtrim($frame['file'] . ':' . $frame['line'] . ' ' . $name);
            $all[] = $line;
            if (preg_match(self::LIBRARY, $frame['file']) === 0) {
                $own[] = $line;
                if (count($own) === $most) {
                    break;
                }
            }
        }
        return $own !== [] ? $own : array_slice($all, 0, $most);
    }

    /** The `sql` of an end record without any statement, for when there is no memory for more. */
    public function totals(): ?array
    {
        if ($this->n === 0) {
            return null;
        }
        return [
            'n' => $this->n,
            'ms' => round($this->ns / 1e6, 3),
            'failed' => $this->failed,
            'slow' => $this->slow,
        ];
    }

    /**
     * The `sql` of an end record; null when nothing ran.
     *
     * @param bool $short statements added up by shape
     * @param int $budgetNs what normalising may cost; statements beyond it stay counted only
     */
    public function section(bool $short, int $budgetNs): ?array
    {
        if ($this->n === 0) {
            return null;
        }
        $seen = [];
        $queries = [];
        foreach ($this->kept as $entry) {
            $key = $entry['c'] . ':' . $entry['sql'];
            if (!isset($seen[$key])) {
                if ($budgetNs < 0) {
                    $this->truncated = true;
                    $this->budget->leave('sql');
                    continue;
                }
                $began = hrtime(true);
                $seen[$key] = $this->statement($entry['sql'], $entry['c']);
                $budgetNs -= Budget::counted(hrtime(true) - $began);
            }
            $entry['sql'] = $seen[$key];
            if ($short) {
                self::sum($queries, $entry);
            } else {
                $queries[] = self::detail($entry);
            }
        }
        $out = $this->totals();
        $out['connections'] = $this->connections;
        $out['queries'] = array_values($queries);
        $out['truncated'] = $this->truncated;
        return $out;
    }

    private function statement(string $sql, int $connection): string
    {
        $dialects = ['mysql' => 'mysql', 'pgsql' => 'pg', 'sqlite' => 'sqlite'];
        $driver = isset($this->connections[$connection]['driver']) ? $this->connections[$connection]['driver'] : '';
        try {
            return Statement::normalise($sql, isset($dialects[$driver]) ? $dialects[$driver] : 'unknown');
        } catch (\Throwable $e) {
            return self::FAILED_REDACTION;
        }
    }

    private static function sum(array &$queries, array $entry): void
    {
        $key = $entry['c'] . ':' . $entry['sql'];
        if (!isset($queries[$key])) {
            $queries[$key] = ['sql' => $entry['sql'], 'ms' => 0.0, 'n' => 0, 'c' => $entry['c']];
        }
        $queries[$key]['ms'] = round($queries[$key]['ms'] + $entry['ms'], 3);
        $queries[$key]['n'] += $entry['n'];
        if ($entry['failed'] > 0) {
            $failed = isset($queries[$key]['failed']) ? $queries[$key]['failed'] : 0;
            $queries[$key]['failed'] = $failed + $entry['failed'];
        }
    }

    private static function detail(array $entry): array
    {
        $out = [
            'sql' => $entry['sql'],
            'ms' => round($entry['ms'], 3),
            'at' => round($entry['at'], 3),
            'c' => $entry['c'],
        ];
        if ($entry['n'] > 1) {
            $out['n'] = $entry['n'];
        }
        if ($entry['failed'] > 0) {
            $out['failed'] = $entry['failed'];
        }
        if ($entry['vars'] !== null) {
            $out['vars'] = $entry['vars'];
        }
        if ($entry['ms'] / $entry['n'] >= Limits::SLOW_MS) {
            $out['slow'] = true;
        }
        if ($entry['stack'] !== null && $entry['stack'] !== []) {
            $out['stack'] = $entry['stack'];
        }
        return $out;
    }
}
