<?php
namespace BitvilleApm;

/** Collapsed stacks, a line each: `file;function;function samples`. */
final class Stacks
{
    const OTHER = '~other';

    /**
     * Adds the lines of a log to a map of stacks, without the client's own frames.
     *
     * A sample that is all our own was taken when control came back to us, for time spent outside of any function:
     * it counts to the script.
     */
    public static function fold(array &$stacks, string $lines, int $weight, string $script): void
    {
        foreach (explode("\n", $lines) as $line) {
            $at = strrpos($line, ' ');
            if ($at === false) {
                continue;
            }
            // Excimer 1.0.4 begins all lines but the first with a semicolon.
            $stack = self::applicationOf(ltrim(substr($line, 0, $at), ';'));
            if ($stack === '') {
                $stack = $script === '' ? '{main}' : $script;
            }
            if (!isset($stacks[$stack]) && count($stacks) >= Limits::STACKS) {
                $stack = self::OTHER;
            }
            $samples = (int) substr($line, $at + 1) * $weight;
            $stacks[$stack] = isset($stacks[$stack]) ? $stacks[$stack] + $samples : $samples;
        }
    }

    private static function applicationOf(string $stack): string
    {
        if (strpos($stack, 'BitvilleApm\\') === false && strpos($stack, dirname(__DIR__)) === false) {
            return $stack;
        }
        $kept = [];
        foreach (explode(';', $stack) as $frame) {
            if (strncmp($frame, 'BitvilleApm\\', 12) !== 0 && strpos($frame, dirname(__DIR__)) === false) {
                $kept[] = $frame;
            }
        }
        return implode(';', $kept);
    }

    /** The map as text of at most $bytes; the smallest stacks are added up as `~other`, so that the total holds. */
    public static function text(array $stacks, int $bytes): string
    {
        arsort($stacks);
        $text = '';
        $other = 0;
        $room = $bytes - 30;
        foreach ($stacks as $stack => $samples) {
            $line = $stack . ' ' . $samples . "\n";
            if ($stack === self::OTHER || strlen($text) + strlen($line) > $room) {
                $other += $samples;
            } else {
                $text .= $line;
            }
        }
        return $other > 0 ? $text . self::OTHER . ' ' . $other . "\n" : $text;
    }

    /** A text cut to the stacks that end in its heaviest functions (by self time). */
    public static function heaviest(string $text, int $functions, int $bytes): string
    {
        $stacks = [];
        $self = [];
        foreach (explode("\n", $text) as $line) {
            $at = strrpos($line, ' ');
            if ($at === false) {
                continue;
            }
            $stack = substr($line, 0, $at);
            $stacks[$stack] = (int) substr($line, $at + 1);
            $leaf = self::leaf($stack);
            $self[$leaf] = (isset($self[$leaf]) ? $self[$leaf] : 0) + $stacks[$stack];
        }
        arsort($self);
        $kept = array_slice($self, 0, $functions, true);
        $other = 0;
        foreach ($stacks as $stack => $samples) {
            if (!isset($kept[self::leaf((string) $stack)])) {
                $other += $samples;
                unset($stacks[$stack]);
            }
        }
        if ($other > 0) {
            $stacks[self::OTHER] = (isset($stacks[self::OTHER]) ? $stacks[self::OTHER] : 0) + $other;
        }
        return self::text($stacks, $bytes);
    }

    /**
     * XHProf's edges between its heaviest functions (by inclusive time); all others are one function, `~other`, so
     * that no caller seems to have spent their time.
     *
     * @param array $edges `caller==>callee` => [ct, wt, …], each a number
     */
    public static function heaviestEdges(array $edges, int $functions): array
    {
        $times = [];
        foreach ($edges as $edge => $entry) {
            $names = explode('==>', (string) $edge);
            $name = end($names);
            $times[$name] = (isset($times[$name]) ? $times[$name] : 0) + $entry['wt'];
        }
        arsort($times);
        $kept = array_slice($times, 0, $functions, true) + ['main()' => 0];
        $out = [];
        foreach ($edges as $edge => $entry) {
            $names = explode('==>', (string) $edge);
            foreach ($names as $i => $name) {
                $names[$i] = isset($kept[$name]) ? $name : self::OTHER;
            }
            // What one of the others calls among themselves is in their inclusive time already.
            if ($names === [self::OTHER, self::OTHER]) {
                continue;
            }
            $key = implode('==>', $names);
            foreach ($entry as $column => $value) {
                $out[$key][$column] = (isset($out[$key][$column]) ? $out[$key][$column] : 0) + $value;
            }
        }
        return $out;
    }

    private static function leaf(string $stack): string
    {
        $at = strrpos($stack, ';');
        return $at === false ? $stack : substr($stack, $at + 1);
    }
}
