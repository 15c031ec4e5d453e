<?php
namespace BitvilleApm;

/**
 * Files for the agent to import when it is back (wire.md 4): short records a line each in one file per worker,
 * whole records one file each. Bounded in files, bytes and age, the oldest removed first.
 */
final class Spool
{
    private $directory;
    private $ageS;
    private $removed = 0;

    public function __construct(Config $config)
    {
        $this->directory = $config->spool;
        $this->ageS = $config->spoolAgeS;
    }

    /** Files removed by this object to keep the bounds. */
    public function removed(): int
    {
        return $this->removed;
    }

    /**
     * A whole record in a file of its own.
     *
     * @param string $line the end line, without its newline
     * @param bool $sent whether all of it had reached the socket
     */
    public function whole(string $line, bool $sent): bool
    {
        $text = '{"v":2,"sent":' . ($sent ? 'true' : 'false') . ',"line":' . $line . "}\n";
        $this->makeRoom(strlen($text));
        $name = $this->directory . '/profile_' . gmdate('Ymd_His') . '_' . bin2hex(random_bytes(4)) . '.json';
        $temporary = $name . '.tmp';
        $file = fopen($temporary, 'x');
        if ($file === false) {
            return false;
        }
        chmod($temporary, 0640);
        $written = fwrite($file, $text);
        $closed = fclose($file);
        // A full disk shows as a short write: then no file at all, rather than a torn one.
        if ($written === strlen($text) && $closed && rename($temporary, $name)) {
            return true;
        }
        unlink($temporary);
        return false;
    }

    /** A short record that did not reach the socket whole. */
    public function short(string $line): bool
    {
        return $this->append($line . "\n");
    }

    /** A short record that was sent whole and never acknowledged: counted, so that the ledger knows. */
    public function unconfirmed(): bool
    {
        return $this->append('{"t":"count","unconfirmed":1}' . "\n");
    }

    private function append(string $line): bool
    {
        $host = function_exists('gethostname') ? (string) gethostname() : '';
        // The same name in each request of a worker; the hex keeps the pids of two containers apart.
        $name = sprintf('%s/short_%d_%04x.ndjson', $this->directory, getmypid(), crc32($host) & 0xffff);
        for ($try = 0; $try < 2; $try++) {
            $file = fopen($name, 'c+');
            if ($file === false) {
                return false;
            }
            if (!flock($file, LOCK_EX)) {
                fclose($file);
                return false;
            }
            $stat = fstat($file);
            // The agent may have imported and removed it between opening and locking.
            if ($stat !== false && $stat['nlink'] > 0) {
                break;
            }
            fclose($file);
            $file = null;
        }
        if ($file === null) {
            return false;
        }
        if ($stat['size'] === 0) {
            chmod($name, 0640);
            $this->makeRoom(Limits::SPOOL_SHORT_BYTES);
        }
        $done = $stat['size'] + strlen($line) <= Limits::SPOOL_SHORT_BYTES - 64
            ? self::appendTo($file, $stat['size'], $line)
            : self::countIn($file, $stat['size']);
        fclose($file);
        return $done;
    }

    private static function appendTo($file, int $size, string $line): bool
    {
        fseek($file, 0, SEEK_END);
        if (fwrite($file, $line) === strlen($line) && fflush($file)) {
            return true;
        }
        ftruncate($file, $size);
        return false;
    }

    /** The file is full: its last line says how many more there were, always of the same length. */
    private static function countIn($file, int $size): bool
    {
        $pattern = '/^\{"t":"count","unconfirmed":0,"left_out": *(\d+)\}\n$/D';
        $length = strlen(self::leftOut(0));
        fseek($file, max(0, $size - $length));
        $found = preg_match($pattern, (string) fread($file, $length), $match) === 1;
        fseek($file, $found ? $size - $length : $size);
        return fwrite($file, self::leftOut($found ? (int) $match[1] + 1 : 1)) === $length;
    }

    private static function leftOut(int $count): string
    {
        return sprintf("{\"t\":\"count\",\"unconfirmed\":0,\"left_out\":%9d}\n", $count);
    }

    /**
     * Counts what is about to be written, and sweeps when that leads over a bound or the last sweep is a minute old.
     *
     * The counters only ever err upwards between sweeps (the agent removes files too), and a sweep corrects them; a
     * worker that finds them locked writes uncounted rather than wait.
     */
    private function makeRoom(int $bytes): void
    {
        $file = fopen($this->directory . '/.counted', 'c+');
        if ($file === false) {
            return;
        }
        if (flock($file, LOCK_EX | LOCK_NB)) {
            $counts = array_map('intval', explode(' ', (string) fread($file, 100)));
            $counts = count($counts) === 3 ? $counts : [0, 0, 0];
            list($files, $used, $swept) = [$counts[0] + 1, $counts[1] + $bytes, $counts[2]];
            $over = $files > Limits::SPOOL_FILES || $used > Limits::SPOOL_BYTES;
            if ($over || abs(time() - $swept) > Limits::SPOOL_SWEEP_S) {
                list($files, $used) = $this->sweep($bytes);
                $swept = time();
            }
            rewind($file);
            ftruncate($file, 0);
            fwrite($file, $files . ' ' . $used . ' ' . $swept);
        }
        fclose($file);
    }

    /** Removes what is too old and, from the oldest, what is too much for one more file of $bytes. */
    private function sweep(int $bytes): array
    {
        $found = [];
        $used = $bytes;
        $now = time();
        clearstatcache();
        $names = scandir($this->directory);
        foreach (is_array($names) ? $names : [] as $name) {
            if (preg_match('/^(?:profile_|short_).*\.(?:json|ndjson|tmp)$/D', $name) !== 1) {
                continue;
            }
            $path = $this->directory . '/' . $name;
            $stat = lstat($path);
            if ($stat === false) {
                continue;
            }
            $torn = substr($name, -4) === '.tmp' && $now - $stat['mtime'] > Limits::SPOOL_SWEEP_S;
            if ($torn || $now - $stat['mtime'] > $this->ageS) {
                $this->remove($path);
                continue;
            }
            $found[$path] = $stat['mtime'];
            $sizes[$path] = $stat['size'];
            $used += $stat['size'];
        }
        $files = count($found) + 1;
        if ($files > Limits::SPOOL_FILES || $used > Limits::SPOOL_BYTES) {
            asort($found);
            foreach ($found as $path => $time) {
                if (
                    $files <= Limits::SPOOL_FILES * Limits::SPOOL_KEEP_SHARE
                    && $used <= Limits::SPOOL_BYTES * Limits::SPOOL_KEEP_SHARE
                ) {
                    break;
                }
                $this->remove($path);
                $files--;
                $used -= $sizes[$path];
            }
        }
        return [$files, $used];
    }

    private function remove(string $path): void
    {
        if (unlink($path)) {
            $this->removed++;
        }
    }
}
