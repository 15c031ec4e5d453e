<?php
namespace BitvilleApm;

/** The statements of an end record, made from what Sql has kept: their literals go, and in short records they are added up. */
final class SqlSection
{
    const FAILED_REDACTION = '[SQL REDACTION FAILED]';
    const DIALECTS = ['mysql' => 'mysql', 'pgsql' => 'pg', 'sqlite' => 'sqlite'];

    private $connections;
    private $stackFrames;
    private $whole = true;

    /** @param array $connections as the record lists them */
    public function __construct(array $connections, int $stackFrames)
    {
        $this->connections = $connections;
        $this->stackFrames = $stackFrames;
    }

    /**
     * @param array $kept entries of Sql, in the order in which they ended
     * @param bool $short statements added up by shape
     * @param int $budgetNs what normalising may cost; statements beyond it are left out
     */
    public function queries(array $kept, bool $short, int $budgetNs): array
    {
        // By connection and text: its statement; and by connection and statement where it is in $queries.
        $seen = $place = [];
        $queries = [];
        foreach ($kept as $entry) {
            $text = $entry['sql'];
            $c = $entry['c'];
            if (!isset($seen[$c][$text])) {
                if ($budgetNs < 0) {
                    $this->whole = false;
                    continue;
                }
                $began = hrtime(true);
                $seen[$c][$text] = $this->statement($text, $c);
                $budgetNs -= Budget::counted(hrtime(true) - $began);
            }
            $statement = $seen[$c][$text];
            if (!$short) {
                $queries[] = $this->detail($statement, $entry);
                continue;
            }
            if (!isset($place[$c][$statement])) {
                $place[$c][$statement] = count($queries);
                $queries[] = ['sql' => $statement, 'ms' => 0.0, 'n' => 0, 'c' => $c];
            }
            self::sum($queries[$place[$c][$statement]], $entry);
        }
        foreach ($short ? $queries : [] as $i => $query) {
            $queries[$i]['ms'] = round($query['ms'], 3);
        }
        return $queries;
    }

    /** False where statements were left out. */
    public function whole(): bool
    {
        return $this->whole;
    }

    private function statement(string $sql, int $connection): string
    {
        $driver = isset($this->connections[$connection]['driver']) ? $this->connections[$connection]['driver'] : '';
        try {
            return Statement::normalise($sql, isset(self::DIALECTS[$driver]) ? self::DIALECTS[$driver] : 'unknown');
        } catch (\Throwable $e) {
            return self::FAILED_REDACTION;
        }
    }

    private static function sum(array &$query, array $entry): void
    {
        $query['ms'] += $entry['ms'];
        $query['n'] += $entry['n'];
        if ($entry['failed'] > 0) {
            $query['failed'] = (isset($query['failed']) ? $query['failed'] : 0) + $entry['failed'];
        }
    }

    private function detail(string $statement, array $entry): array
    {
        $out = [
            'sql' => $statement,
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
        $stack = $entry['stack'];
        if (is_string($stack)) {
            $stack = array_slice(array_reverse(explode(', ', $stack)), 0, $this->stackFrames);
        }
        if ($stack !== null && $stack !== []) {
            $out['stack'] = $stack;
        }
        return $out;
    }
}
