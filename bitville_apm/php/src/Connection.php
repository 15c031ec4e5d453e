<?php
namespace BitvilleApm;

/** One connection to a database as the record lists it, and the way from its statements to the request's log. */
final class Connection
{
    private $facts = [];

    /** Those as one text. */
    private $key;

    /** @param array $facts driver, host, port, database, user: those that are known */
    public function __construct(array $facts)
    {
        foreach ($facts as $name => $fact) {
            if (is_scalar($fact) && (string) $fact !== '') {
                $this->facts[$name] = substr((string) $fact, 0, $name === 'database' ? Limits::STRING : Limits::KEY);
            }
        }
        $this->key = implode("\0", $this->facts);
    }

    /** Notes one execution that began at $began (hrtime) and ends now. */
    public function note(Sql $sql, string $text, int $began, bool $failed, ?int $variables = null): void
    {
        $this->took($sql, $text, hrtime(true) - $began, $failed, $variables);
    }

    /**
     * Notes one execution that took $ns and has just ended.
     *
     * @param string[]|string|null $stack as Sql::add() takes it
     */
    public function took(
        Sql $sql,
        string $text,
        int $ns,
        bool $failed,
        ?int $variables = null,
        $stack = null
    ): void {
        try {
            $connection = $sql->connection($this->facts, $this->key);
            $sql->add($text, hrtime(true), $ns, $failed, $connection, $variables, $stack);
        } catch (\Throwable $e) {
            // The statement ran; that is what counts for the application.
        }
    }

    /** Notes one execution that ended at $endNs (hrtime), as Sql::keep() does. */
    public function keep(Sql $sql, string $text, int $endNs, int $ns, bool $failed, ?string $callers = null): void
    {
        $sql->keep($text, $endNs, $ns, $failed, $sql->connection($this->facts, $this->key), null, $callers);
    }

    /** Driver, host, port, database and user of a DSN; never its password. */
    public static function facts(string $dsn, ?string $user): array
    {
        $at = strpos($dsn, ':');
        $driver = $at === false ? '' : strtolower(substr($dsn, 0, $at));
        $rest = $at === false ? '' : substr($dsn, $at + 1);
        if ($driver === 'sqlite') {
            return ['driver' => $driver, 'database' => substr($rest, 0, Limits::STRING)];
        }
        $named = [];
        foreach (preg_split('/[;\s]+/', $rest, 30) ?: [] as $pair) {
            $pair = explode('=', $pair, 2);
            if (isset($pair[1])) {
                $named[strtolower($pair[0])] = trim($pair[1], "'\"");
            }
        }
        $facts = ['driver' => $driver];
        $keys = ['host' => ['host', 'unix_socket'], 'port' => ['port'], 'database' => ['dbname'], 'user' => ['user']];
        foreach ($keys as $key => $spellings) {
            foreach ($spellings as $spelling) {
                if (!isset($facts[$key]) && isset($named[$spelling]) && $named[$spelling] !== '') {
                    $facts[$key] = substr($named[$spelling], 0, Limits::KEY);
                }
            }
        }
        if ($user !== null && $user !== '') {
            $facts['user'] = substr($user, 0, Limits::KEY);
        }
        return $facts;
    }
}
