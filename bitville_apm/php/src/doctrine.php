<?php
/** What Doctrine DBAL calls a middleware: its connection and its statements, each noted, everything passed on. */
namespace BitvilleApm;

use Doctrine\DBAL\Driver as Dbal;
use Doctrine\DBAL\Driver\Middleware\AbstractConnectionMiddleware;
use Doctrine\DBAL\Driver\Middleware\AbstractDriverMiddleware;
use Doctrine\DBAL\Driver\Middleware\AbstractStatementMiddleware;

if (!class_exists(DoctrineMiddleware::class, false)) {
    final class DoctrineMiddleware implements Dbal\Middleware
    {
        public function wrap(Dbal $driver): Dbal
        {
            return new DoctrineDriver($driver);
        }

        /** Runs $work, which is one execution of $text. */
        public static function note(array $parameters, string $text, ?int $variables, callable $work)
        {
            $sql = Client::sql('doctrine');
            if ($sql === null) {
                return $work();
            }
            $failed = true;
            $began = hrtime(true);
            try {
                $result = $work();
                $failed = false;
                return $result;
            } finally {
                $named = ['host' => 'host', 'port' => 'port', 'database' => 'dbname', 'user' => 'user'];
                $facts = ['driver' => self::driver($parameters)];
                foreach ($named as $fact => $parameter) {
                    $facts[$fact] = isset($parameters[$parameter]) ? $parameters[$parameter] : '';
                }
                (new Connection($facts))->note($sql, $text, $began, $failed, $variables);
            }
        }

        /** `pdo_mysql`, `mysqli` … as PDO names them. */
        private static function driver(array $parameters): string
        {
            $driver = isset($parameters['driver']) ? (string) $parameters['driver'] : '';
            return $driver === 'mysqli' ? 'mysql' : preg_replace('/^pdo_|3$/', '', $driver);
        }
    }

    final class DoctrineDriver extends AbstractDriverMiddleware
    {
        public function connect(array $params): Dbal\Connection
        {
            return new DoctrineConnection(parent::connect($params), $params);
        }
    }

    final class DoctrineConnection extends AbstractConnectionMiddleware
    {
        private $parameters;

        public function __construct(Dbal\Connection $connection, array $parameters)
        {
            parent::__construct($connection);
            unset($parameters['password']);
            $this->parameters = $parameters;
        }

        public function prepare(string $sql): Dbal\Statement
        {
            return new DoctrineStatement(parent::prepare($sql), $this->parameters, $sql);
        }

        public function query(string $sql): Dbal\Result
        {
            return DoctrineMiddleware::note($this->parameters, $sql, null, function () use ($sql) {
                return parent::query($sql);
            });
        }

        public function exec(string $sql): int
        {
            return DoctrineMiddleware::note($this->parameters, $sql, null, function () use ($sql) {
                return parent::exec($sql);
            });
        }
    }

    final class DoctrineStatement extends AbstractStatementMiddleware
    {
        private $parameters;
        private $text;

        public function __construct(Dbal\Statement $statement, array $parameters, string $text)
        {
            parent::__construct($statement);
            $this->parameters = $parameters;
            $this->text = $text;
        }

        public function execute($params = null): Dbal\Result
        {
            $variables = is_array($params) ? count($params) : null;
            return DoctrineMiddleware::note($this->parameters, $this->text, $variables, function () use ($params) {
                // DBAL 4 takes none.
                return $params === null ? parent::execute() : parent::execute($params);
            });
        }
    }
}

return true;
