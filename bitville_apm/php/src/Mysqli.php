<?php
namespace BitvilleApm;

/**
 * \mysqli that notes its statements: `new \BitvilleApm\Mysqli(...)` instead of `new \mysqli(...)`.
 *
 * With profiling off it only passes on. Statements that the functions mysqli_query() and mysqli_stmt_execute() run on
 * it are counted, not seen.
 */
class Mysqli extends \mysqli
{
    private $facts;
    private $noted;

    public function __construct(
        $hostname = null,
        $username = null,
        #[\SensitiveParameter]
        $password = null,
        $database = null,
        $port = null,
        $socket = null
    ) {
        $given = [$hostname, $username, $password, $database, $port, $socket];
        $this->facts = ['driver' => 'mysql', 'host' => $hostname === null ? $socket : $hostname];
        $this->facts += ['port' => $port, 'database' => $database, 'user' => $username];
        // Without any argument it does not connect.
        parent::__construct(...array_slice($given, 0, func_num_args()));
    }

    /** As the record lists it; made when a statement is noted first. */
    public function noted(): Connection
    {
        if ($this->noted === null) {
            $this->noted = new Connection($this->facts);
        }
        return $this->noted;
    }

    #[\ReturnTypeWillChange]
    public function query($query, $resultmode = MYSQLI_STORE_RESULT)
    {
        $sql = Client::sql('mysqli');
        if ($sql === null) {
            return parent::query($query, $resultmode);
        }
        $result = false;
        $began = hrtime(true);
        try {
            return $result = parent::query(Client::comment() . $query, $resultmode);
        } finally {
            $this->noted()->note($sql, (string) $query, $began, $result === false);
        }
    }

    #[\ReturnTypeWillChange]
    public function real_query($query)
    {
        $sql = Client::sql('mysqli');
        if ($sql === null) {
            return parent::real_query($query);
        }
        $result = false;
        $began = hrtime(true);
        try {
            return $result = parent::real_query(Client::comment() . $query);
        } finally {
            $this->noted()->note($sql, (string) $query, $began, $result === false);
        }
    }

    #[\ReturnTypeWillChange]
    public function prepare($query)
    {
        $sql = Client::sql('mysqli');
        if ($sql === null) {
            return parent::prepare($query);
        }
        $result = false;
        $began = hrtime(true);
        try {
            $result = new MysqliStatement($this, Client::comment() . $query);
            if ($result->errno !== 0) {
                // Once more, for what PHP answers and leaves behind then. Ours must be gone before: its end clears errors.
                $result = null;
                $result = parent::prepare($query);
            }
            return $result;
        } finally {
            if (!$result instanceof MysqliStatement) {
                $this->noted()->note($sql, (string) $query, $began, true);
            }
        }
    }
}
