<?php
namespace BitvilleApm;

/** A prepared statement of mysqli that notes its executions, with the number of its values and never the values. */
class MysqliStatement extends \mysqli_stmt
{
    private $connection;
    private $text;

    public function __construct(Mysqli $connection, string $query)
    {
        $this->connection = $connection;
        $this->text = $query;
        parent::__construct($connection, $query);
    }

    #[\ReturnTypeWillChange]
    public function execute($params = null)
    {
        $sql = Client::sql('mysqli');
        $result = false;
        $began = hrtime(true);
        try {
            // PHP 8.0 and before take no values here.
            return $result = $params === null ? parent::execute() : parent::execute($params);
        } finally {
            if ($sql !== null) {
                $this->connection->noted()->note($sql, $this->text, $began, $result === false, $this->param_count);
            }
        }
    }
}
