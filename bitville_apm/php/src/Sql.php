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
    private $config;
    private $origin;

    /** hrtime of the request's start, for `at`; and the same as Unix time. */
    private $startNs;
    private $startedAt;
    private $budget;

    /** hrtime from when on a quick statement is worth a stack. */
    private $stacksNs;

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

    public function __construct(Config $config, int $startNs, float $startedAt, Budget $budget)
    {
        $this->config = $config;
        $this->startNs = $startNs;
        $this->startedAt = $startedAt;
        $this->budget = $budget;
        $this->stacksNs = $startNs + (int) ($config->thresholdMs * Limits::STACK_SHARE * 1e6);
        $this->origin = new Origin($config->sqlStackFrames);
    }

    /**
     * @param array $facts driver, host, port, database, user
     * @param string|null $key those as one text, where the caller has it
     * @return int what add() takes for it
     */
    public function connection(array $facts, ?string $key = null): int
    {
        $key = $key === null ? implode("\0", $facts) : $key;
        if (!isset($this->connectionIndex[$key]) && count($this->connections) >= Limits::CONNECTIONS) {
            // An application with a database for each of its customers: of further ones only the driver.
            $facts = array_intersect_key($facts, ['driver' => 1]);
            $key = implode('', $facts);
        }
        if (!isset($this->connectionIndex[$key])) {
            $this->connectionIndex[$key] = count($this->connections);
            $this->connections[] = $facts;
        }
        return $this->connectionIndex[$key];
    }

    /**
     * Counts one execution.
     *
     * @param int $endNs hrtime when it ended, which is now
     * @param int $ns how long it took
     * @param int|null $variables number of bound values; the values themselves are never taken
     * @param string[]|string|null $stack the frames that led here, where the source knows them: innermost first, or as
     *   WordPress has them (`main, Page->show, get`); else they are looked up
     */
    public function add(
        string $sql,
        int $endNs,
        int $ns,
        bool $failed,
        int $connection,
        ?int $variables,
        $stack = null
    ): void {
        $this->keep($sql, $endNs, $ns, $failed, $connection, $variables, $stack);
        $this->spend(hrtime(true) - $endNs);
    }

    /** Notes our own work on statements. */
    public function spend(int $ns): void
    {
        $this->budget->spend($ns);
    }

    /** hrtime of a Unix time within the request. */
    public function hrtimeOf(float $at): int
    {
        $since = $at - $this->startedAt;
        // A clock that jumped since is not this request's time.
        return $this->startNs + ($since > 0 && $since < 86400 ? (int) ($since * 1e9) : 0);
    }

    /** hrtime from when on a quick statement has a stack, too. */
    public function stacksFrom(): int
    {
        return $this->config->sqlStack ? $this->stacksNs : PHP_INT_MAX;
    }

    /** What add() does, of an execution that may have ended some time ago; its cost is the caller's to spend(). */
    public function keep(
        string $sql,
        int $endNs,
        int $ns,
        bool $failed,
        int $connection,
        ?int $variables = null,
        $stack = null
    ): void {
        $slow = $ns >= Limits::SLOW_MS * 1000000;
        $this->n++;
        $driver = isset($this->connections[$connection]['driver']) ? $this->connections[$connection]['driver'] : '';
        $this->byDriver[$driver] = isset($this->byDriver[$driver]) ? $this->byDriver[$driver] + 1 : 1;
        $this->ns += $ns;
        $this->failed += (int) $failed;
        $this->slow += (int) $slow;
        $length = min(strlen($sql), Limits::STATEMENT_BYTES);
        $room = count($this->kept) < Limits::QUERIES && $this->bytes + $length <= Limits::QUERIES_BYTES;
        if ($room && $this->budget->allows('sql', $endNs)) {
            $this->kept[] = [
                'sql' => $this->held($sql),
                'ms' => $ns / 1e6,
                'at' => ($endNs - $ns - $this->startNs) / 1e6,
                'n' => 1,
                'c' => $connection,
                'failed' => (int) $failed,
                'vars' => $variables,
                'stack' => $this->config->sqlStack ? $this->framesOf($stack, $ns, $endNs) : null,
            ];
            if ($this->repeated !== []) {
                $this->repeated[$connection . ':' . end($this->kept)['sql']] = count($this->kept) - 1;
            }
        } else {
            $this->repeat($sql, $ns, $failed, $connection);
        }
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

    /**
     * Of a statement that took its time always; of all others within a budget, and once the request has lasted for so
     * long that it may well be kept whole: a short record has no stacks.
     */
    private function framesOf($known, int $ns, int $endNs)
    {
        if (is_string($known)) {
            // Taken apart when it is sent, which for most requests is never.
            return strlen($known) > Limits::CALLERS_BYTES ? substr($known, -Limits::CALLERS_BYTES) : $known;
        }
        if ($known !== null) {
            return array_slice($known, 0, $this->config->sqlStackFrames);
        }
        if ($ns < Limits::STACK_MS * 1000000) {
            if ($endNs < $this->stacksNs) {
                $this->budget->leave('sql_stack');
                return null;
            }
            if (!$this->budget->allows('sql_stack', $endNs, 0.5, Limits::BUDGET_STACK_US)) {
                return null;
            }
        }
        return $this->origin->frames();
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
        $section = new SqlSection($this->connections, $this->config->sqlStackFrames);
        $queries = $section->queries($this->kept, $short, $budgetNs);
        if (!$section->whole()) {
            $this->truncated = true;
            $this->budget->leave('sql');
        }
        $out = $this->totals();
        // One of which nothing is known is still an object in JSON.
        $out['connections'] = array_map(static function (array $facts) {
            return $facts === [] ? (object) [] : $facts;
        }, $this->connections);
        $out['queries'] = $queries;
        $out['truncated'] = $this->truncated;
        return $out;
    }
}
