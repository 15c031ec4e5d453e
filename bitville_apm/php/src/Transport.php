<?php
namespace BitvilleApm;

/**
 * The connection of one request to the agent: a UNIX stream that never blocks.
 *
 * ext/sockets is not needed. Nothing here looks at a clock before it has to wait.
 */
final class Transport
{
    const JSON = JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR;

    private $path;
    private $stream;

    /** hrtime by which all waiting is over; null until something had to be waited for. */
    private $deadline;
    private $deadlineNs;

    public function __construct(Config $config)
    {
        $this->path = $config->socket;
        $restMs = min(Limits::DEADLINE_REST_MS, $config->deadlineMs / 2);
        $this->deadlineNs = (int) (($config->deadlineMs - $restMs) * 1e6);
    }

    /** One line of JSON. It throws rather than set json_last_error(), which belongs to the application. */
    public static function line(array $value): string
    {
        return json_encode($value, self::JSON, 32) . "\n";
    }

    /** Connects, or fails at once; also when the agent's backlog is full. */
    public function open(): bool
    {
        // A look at the path first: with no agent at all it spares the more expensive attempt.
        if (strlen($this->path) > Limits::SOCKET_PATH_BYTES || !file_exists($this->path)) {
            return false;
        }
        $stream = stream_socket_client('unix://' . $this->path, $code, $text, 0.01);
        if ($stream === false) {
            return false;
        }
        stream_set_blocking($stream, false);
        $this->stream = $stream;
        return true;
    }

    public function isOpen(): bool
    {
        return $this->stream !== null;
    }

    public function close(): void
    {
        // The last reference: PHP closes it, also where fclose() is disabled.
        $this->stream = null;
    }

    /**
     * Writes without waiting, and gives the line up where there is no room for it.
     *
     * For small lines in the middle of a request. One that was torn makes the connection worthless.
     */
    public function post(string $bytes): bool
    {
        $taken = $this->stream === null ? 0 : fwrite($this->stream, $bytes);
        if ($taken === strlen($bytes)) {
            return true;
        }
        if ($taken !== 0) {
            $this->close();
        }
        return false;
    }

    /**
     * Writes all of it before the deadline, the first time before looking at any clock. False closes.
     *
     * @param callable $patient asked, when not all was taken at once, whether to wait for more room
     */
    public function send(string $bytes, callable $patient): bool
    {
        while (true) {
            $taken = $this->stream === null ? false : fwrite($this->stream, $bytes);
            if ($taken === strlen($bytes)) {
                return true;
            }
            if ($taken === false) {
                break;
            }
            $bytes = (string) substr($bytes, $taken);
            if (!$patient() || !$this->wait(true)) {
                break;
            }
        }
        $this->close();
        return false;
    }

    /**
     * The agent's answer: `+` or `-`, null when none came. A connection that the agent closed is closed here too.
     *
     * @param bool $patient whether to wait until the deadline; there is always one last look after it
     */
    public function answer(bool $patient): ?string
    {
        while ($this->stream !== null) {
            $more = $patient && $this->wait(false);
            $byte = fread($this->stream, 1);
            if ($byte === '+' || $byte === '-') {
                return $byte;
            }
            if ($byte !== '' && $byte !== false || feof($this->stream)) {
                $this->close();
            } elseif (!$more) {
                return null;
            }
        }
        return null;
    }

    /** Starts the one deadline, if it is not running yet; @return int nanoseconds left, negative when over */
    public function left(): int
    {
        $now = hrtime(true);
        if ($this->deadline === null) {
            $this->deadline = $now + $this->deadlineNs;
        }
        return $this->deadline - $now;
    }

    /** Since the deadline runs. */
    public function waitedMs(): int
    {
        return (int) (($this->deadlineNs - $this->left()) / 1e6);
    }

    /** Waits until the stream can be written or read; false when the deadline came first. */
    private function wait(bool $toWrite): bool
    {
        $left = $this->left();
        if ($left <= 0) {
            return false;
        }
        $read = $toWrite ? [] : [$this->stream];
        $write = $toWrite ? [$this->stream] : [];
        $except = null;
        $ready = function_exists('stream_select')
            ? stream_select($read, $write, $except, 0, (int) ceil($left / 1000))
            : false;
        if ($ready === false) {
            // A signal, or descriptors beyond what select can name: short naps keep the same deadline.
            usleep(500);
            return true;
        }
        return $ready > 0;
    }
}
