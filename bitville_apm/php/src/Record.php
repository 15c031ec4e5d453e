<?php
namespace BitvilleApm;

/** An end record as JSON (wire.md 2), and what is left out of one that is too large (COMM-09). */
final class Record
{
    /**
     * The line of an end record, at most 200 KB in the end.
     *
     * Left out first: all but the heaviest 50 functions; then the stacks of quick statements, and those that another
     * execution of the same text has, too; then all but the slowest 100 statements; then the stacks of those, and what
     * the visitor sent. JSON doubles quotes and backslashes: where that is still too much, most of the statements' texts
     * and of the stacks.
     */
    public static function bounded(array $record): string
    {
        $line = Transport::line($record);
        foreach (['profile', 'stacks', 'statements', 'rest', 'least'] as $part) {
            if (strlen($line) <= Limits::RECORD_BYTES) {
                break;
            }
            $record = self::without($record, $part);
            $line = Transport::line($record);
        }
        return $line;
    }

    private static function without(array $record, string $part): array
    {
        $least = $part === 'least';
        if (($part === 'profile' || $least) && isset($record['profile']['stacks'])) {
            $record['profile']['stacks'] = Stacks::heaviest(
                $record['profile']['stacks'],
                Limits::PRUNED_FUNCTIONS,
                $least ? Limits::LEAST_STACKS_BYTES : Limits::PRUNED_STACKS_BYTES
            );
            $record['truncated'] = true;
        }
        if (($part === 'profile' || $least) && isset($record['profile']['edges'])) {
            $record['profile']['edges'] = Stacks::heaviestEdges(
                $record['profile']['edges'],
                $least ? Limits::LEAST_FUNCTIONS : Limits::PRUNED_FUNCTIONS
            );
            $record['truncated'] = true;
        }
        if ($part === 'stacks' && isset($record['sql']['queries'])) {
            $record['sql']['queries'] = self::withoutMostStacks($record['sql']['queries']);
            $left = isset($record['sampled_down']) ? $record['sampled_down'] : [];
            $record['sampled_down'] = array_values(array_unique(array_merge($left, ['sql_stack'])));
        }
        if ($part === 'statements' && isset($record['sql']['queries'])) {
            $record['sql']['queries'] = self::slowest($record['sql']['queries']);
            $record['sql']['truncated'] = $record['sql_truncated'] = true;
        }
        if ($part === 'rest' || $least) {
            foreach (isset($record['sql']['queries']) ? $record['sql']['queries'] : [] as $i => $query) {
                unset($record['sql']['queries'][$i]['stack']);
                $most = $least ? Limits::LEAST_STATEMENT : Limits::STRING;
                $record['sql']['queries'][$i]['sql'] = self::cut($query['sql'], $most);
            }
            unset($record['request']['post'], $record['request']['query'], $record['request']['headers']);
            unset($record['request']['files'], $record['context'], $record['response']['headers']);
            $record['truncated'] = true;
        }
        return $record;
    }

    private static function withoutMostStacks(array $queries): array
    {
        $told = [];
        foreach ($queries as $i => $query) {
            if (!isset($query['stack'])) {
                continue;
            }
            $times = isset($query['n']) ? $query['n'] : 1;
            $from = implode("\n", $query['stack']);
            if ($query['ms'] / $times < Limits::STACK_MS || isset($told[$query['sql']][$from])) {
                unset($queries[$i]['stack']);
            } else {
                $told[$query['sql']][$from] = true;
            }
        }
        return $queries;
    }

    /** The slowest statements, in the order in which they ran. */
    private static function slowest(array $queries): array
    {
        $times = array_column($queries, 'ms');
        arsort($times);
        $kept = array_slice($times, 0, Limits::PRUNED_STATEMENTS, true);
        return array_values(array_intersect_key($queries, $kept));
    }

    private static function cut(string $text, int $most): string
    {
        return strlen($text) > $most ? substr($text, 0, $most) . Redactor::CUT : $text;
    }
}
