<?php
namespace BitvilleApm;

/**
 * What the workers of a pool tell one another, as files of the spool directory.
 *
 * `.hung` means that nobody waits for an acknowledgement; it never means that nothing is sent. `.miss` counts
 * deadlines missed: its size is the count, its time the second.
 */
final class Markers
{
    private $directory;
    private $heartbeat;
    private $seenHung = false;

    public function __construct(Config $config)
    {
        $this->directory = $config->spool;
        $this->heartbeat = dirname($config->socket) . '/alive';
    }

    /** Whether the agent is taken for hung, so that waiting for it would only hold up this worker. */
    public function hung(): bool
    {
        clearstatcache();
        $now = time();
        $beat = self::time($this->heartbeat);
        $marked = self::time($this->directory . '/.hung');
        $this->seenHung = $marked !== null;
        if ($beat !== null && $now - $beat > Limits::HEARTBEAT_STALE_S) {
            if ($marked === null) {
                touch($this->directory . '/.hung');
            }
            return true;
        }
        if ($marked === null) {
            return false;
        }
        if ($beat !== null && ($beat > $marked || $marked > $now)) {
            // A heartbeat younger than the mark: the agent turned since.
            $this->answered();
            return false;
        }
        if ($beat === null && abs($now - $marked) > Limits::HEARTBEAT_STALE_S) {
            // No heartbeat will ever clear it: one worker tries, while a fresh mark keeps the others from waiting.
            touch($this->directory . '/.hung');
            return false;
        }
        return true;
    }

    /** An acknowledgement came: whatever was thought of the agent, it is not hung. */
    public function answered(): void
    {
        if ($this->seenHung) {
            unlink($this->directory . '/.hung');
            $this->seenHung = false;
        }
    }

    /** A deadline was missed that this worker's own waiting for a CPU does not explain. */
    public function missed(): void
    {
        $file = fopen($this->directory . '/.miss', 'a');
        if ($file === false) {
            return;
        }
        $stat = fstat($file);
        $count = $stat['size'];
        if (abs(time() - $stat['mtime']) > 1) {
            ftruncate($file, 0);
            $count = 0;
        }
        if ($count + 1 >= Limits::MISSES) {
            ftruncate($file, 0);
            touch($this->directory . '/.hung');
        } else {
            fwrite($file, '.');
        }
        fclose($file);
    }

    /** Whether a message of this kind may be logged now: once a minute for the whole pool. */
    public function once(string $kind): bool
    {
        return $this->due('.said-' . $kind, Limits::LOG_S);
    }

    /** Whether what the pool does every $seconds is due now, and this worker's to do: of several, one. */
    public function due(string $mark, int $seconds): bool
    {
        $file = $this->directory . '/' . $mark;
        clearstatcache();
        $last = self::time($file);
        if ($last === null) {
            // Where no mark can be left it never is: once per request would be worse than not at all.
            return fopen($file, 'x') !== false;
        }
        if (abs(time() - $last) < $seconds) {
            return false;
        }
        $held = function_exists('flock') ? fopen($file, 'c') : false;
        if ($held === false || !flock($held, LOCK_EX | LOCK_NB)) {
            return false;
        }
        clearstatcache();
        return abs(time() - (int) self::time($file)) >= $seconds && touch($file);
    }

    /** A file's modification time; null when there is none. */
    private static function time(string $file): ?int
    {
        $time = filemtime($file);
        return $time === false ? null : $time;
    }
}
