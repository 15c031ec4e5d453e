<?php
namespace BitvilleApm;

/**
 * \PDO that notes its statements: `new \BitvilleApm\Pdo(...)` instead of `new \PDO(...)`.
 *
 * With profiling off it only passes on. A statement class of the application's own is left alone; what is executed
 * through it is not seen.
 */
class Pdo extends \PDO
{
    private $dsn;
    private $user;
    private $connection;

    public function __construct(
        $dsn,
        $username = null,
        #[\SensitiveParameter]
        $password = null,
        $options = null
    ) {
        parent::__construct($dsn, $username, $password, $options);
        $this->dsn = (string) $dsn;
        $this->user = $username === null ? null : (string) $username;
    }

    /** As the record lists it; made when a statement is noted first. */
    private function connection(): Connection
    {
        if ($this->connection === null) {
            $this->connection = new Connection(Connection::facts($this->dsn, $this->user));
        }
        return $this->connection;
    }

    // Variadic, because PHP 7.4 declares no parameters here and PHP 8 three.
    #[\ReturnTypeWillChange]
    public function query(...$arguments)
    {
        $sql = Client::sql('pdo');
        if ($sql === null) {
            return parent::query(...$arguments);
        }
        $result = false;
        $began = hrtime(true);
        try {
            $text = array_shift($arguments);
            return $result = parent::query(Client::comment() . $text, ...$arguments);
        } finally {
            $this->connection()->note($sql, (string) $text, $began, $result === false);
        }
    }

    #[\ReturnTypeWillChange]
    public function exec($statement)
    {
        $sql = Client::sql('pdo');
        if ($sql === null) {
            return parent::exec($statement);
        }
        $result = false;
        $began = hrtime(true);
        try {
            return $result = parent::exec(Client::comment() . $statement);
        } finally {
            $this->connection()->note($sql, (string) $statement, $began, $result === false);
        }
    }

    #[\ReturnTypeWillChange]
    public function prepare($query, $options = [])
    {
        $sql = Client::sql('pdo');
        if ($sql === null) {
            return parent::prepare($query, $options);
        }
        if (is_array($options) && !isset($options[\PDO::ATTR_STATEMENT_CLASS])) {
            $class = $this->getAttribute(\PDO::ATTR_STATEMENT_CLASS);
            if (is_array($class) && $class[0] === 'PDOStatement') {
                // For this statement alone: other than the attribute, that works on persistent connections too, and
                // the application finds the attribute as it left it.
                $options[\PDO::ATTR_STATEMENT_CLASS] = [PdoStatement::class, [$this->connection()]];
            }
        }
        $result = false;
        $began = hrtime(true);
        try {
            return $result = parent::prepare(Client::comment() . $query, $options);
        } finally {
            if ($result === false) {
                $this->connection()->note($sql, (string) $query, $began, true);
            }
        }
    }

    #[\ReturnTypeWillChange]
    public function beginTransaction()
    {
        return $this->transaction('BEGIN');
    }

    #[\ReturnTypeWillChange]
    public function commit()
    {
        return $this->transaction('COMMIT');
    }

    #[\ReturnTypeWillChange]
    public function rollBack()
    {
        return $this->transaction('ROLLBACK');
    }

    /** A COMMIT is where a database waits for its disk: no smaller than any other statement. */
    private function transaction(string $statement)
    {
        $sql = Client::sql('pdo');
        $result = false;
        $began = $sql === null ? 0 : hrtime(true);
        try {
            if ($statement === 'BEGIN') {
                return $result = parent::beginTransaction();
            }
            return $result = $statement === 'COMMIT' ? parent::commit() : parent::rollBack();
        } finally {
            if ($sql !== null) {
                $this->connection()->note($sql, $statement, $began, $result === false);
            }
        }
    }
}
