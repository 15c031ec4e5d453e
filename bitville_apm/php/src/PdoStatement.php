<?php
namespace BitvilleApm;

/** A prepared statement that notes its executions, with the number of its bound values and never the values. */
class PdoStatement extends \PDOStatement
{
    private $connection;
    private $bound = [];

    protected function __construct(Connection $connection)
    {
        $this->connection = $connection;
    }

    #[\ReturnTypeWillChange]
    public function execute($params = null)
    {
        $sql = Client::sql('pdo');
        if ($sql === null) {
            return parent::execute($params);
        }
        $result = false;
        $began = hrtime(true);
        try {
            return $result = parent::execute($params);
        } finally {
            $variables = is_array($params) ? count($params) : count($this->bound);
            $this->connection->note($sql, (string) $this->queryString, $began, $result === false, $variables);
        }
    }

    #[\ReturnTypeWillChange]
    public function bindValue($param, $value, $type = \PDO::PARAM_STR)
    {
        $this->bound[$param] = true;
        return parent::bindValue($param, $value, $type);
    }

    #[\ReturnTypeWillChange]
    public function bindParam($param, &$var, $type = \PDO::PARAM_STR, $maxLength = 0, $driverOptions = null)
    {
        $this->bound[$param] = true;
        return parent::bindParam($param, $var, $type, $maxLength, $driverOptions);
    }
}
