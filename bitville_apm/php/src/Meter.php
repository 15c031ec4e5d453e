<?php
namespace BitvilleApm;

/**
 * CPU and run-queue time of this process between two moments.
 *
 * schedstat is exact and counts this thread alone; getrusage also counts a profiler's helper thread (4.7 ms a second
 * instead of 0.3 for a sleeping request with Excimer) and is used where /proc cannot be read, and where no agent
 * answered at the start: it costs a tenth.
 */
final class Meter
{
    /** [ns on a CPU, ns runnable but waiting for one], or null. */
    private $scheduled;

    /** [user, system] microseconds, or null. */
    private $used;

    /** The same at the end. */
    private $stopped;

    /** @param bool $exactly by schedstat, which takes ten times as long to read */
    public function __construct(bool $exactly)
    {
        $this->scheduled = $exactly ? self::schedstat() : null;
        $this->used = $this->scheduled === null ? self::rusage() : null;
    }

    /** Ends the measurement; @return int[]|null schedstat now, where it was read at the start */
    public function stop(): ?array
    {
        $this->stopped = $this->scheduled === null ? self::rusage() : self::schedstat();
        return $this->scheduled === null ? null : $this->stopped;
    }

    /** @return int[]|null [ns on a CPU, ns runnable but waiting], since the process began */
    public static function schedstat(): ?array
    {
        // With a length PHP reads once instead of until the end: half the time.
        $text = file_get_contents('/proc/self/schedstat', false, null, 0, 100);
        $parts = is_string($text) ? explode(' ', $text) : [];
        return isset($parts[1]) && is_numeric($parts[0]) ? [(int) $parts[0], (int) $parts[1]] : null;
    }

    public function start(): ?array
    {
        return $this->scheduled;
    }

    /** What was used until stop(), as the fields of an end record: `ss`, else `cpu`, else nothing. */
    public function spent(): array
    {
        if ($this->stopped === null) {
            return [];
        }
        if ($this->scheduled !== null) {
            return ['ss' => self::since($this->scheduled, $this->stopped)];
        }
        if ($this->used === null) {
            return [];
        }
        return ['cpu' => array_combine(['user_us', 'system_us'], self::since($this->used, $this->stopped))];
    }

    private static function since(array $before, array $now): array
    {
        return [max(0, $now[0] - $before[0]), max(0, $now[1] - $before[1])];
    }

    private static function rusage(): ?array
    {
        $usage = function_exists('getrusage') ? getrusage() : false;
        if (!is_array($usage)) {
            return null;
        }
        return [
            $usage['ru_utime.tv_sec'] * 1000000 + $usage['ru_utime.tv_usec'],
            $usage['ru_stime.tv_sec'] * 1000000 + $usage['ru_stime.tv_usec'],
        ];
    }
}
