<?php
namespace BitvilleApm;

/**
 * Listens to the database layer of a framework that the application hands over, by the framework's own means:
 * `bitville_apm_attach_sql($it)`.
 */
final class Frameworks
{
    const DOCTRINE = __DIR__ . '/doctrine.php';

    /** Objects that are listened to already. */
    private static $attached = [];

    /** @return bool whether it is something we can listen to */
    public static function attach($it): bool
    {
        if (!is_object($it)) {
            return false;
        }
        foreach (self::$attached as $before) {
            if ($before === $it) {
                return true;
            }
        }
        $done = self::phalcon($it) || self::doctrine($it) || self::laravel($it);
        if ($done) {
            self::$attached[] = $it;
        }
        return $done;
    }

    /** Phalcon's container or its database adapter: the events around each statement. */
    private static function phalcon($it): bool
    {
        if (method_exists($it, 'getShared') && method_exists($it, 'has') && $it->has('db')) {
            $it = $it->getShared('db');
        }
        if (!is_object($it) || !method_exists($it, 'getEventsManager') || !method_exists($it, 'getSQLStatement')) {
            return false;
        }
        $events = $it->getEventsManager();
        if ($events === null) {
            $class = 'Phalcon\\Events\\Manager';
            if (!class_exists($class)) {
                return false;
            }
            $events = new $class();
            $it->setEventsManager($events);
        }
        $began = null;
        $events->attach('db:beforeQuery', static function () use (&$began) {
            $began = hrtime(true);
        });
        $events->attach('db:afterQuery', static function ($event, $adapter) use (&$began) {
            Client::quietly(static function () use ($adapter, &$began) {
                $sql = Client::sql('phalcon');
                if ($sql === null || $began === null) {
                    return;
                }
                $facts = (array) $adapter->getDescriptor();
                $variables = $adapter->getSQLVariables();
                (new Connection([
                    'driver' => method_exists($adapter, 'getType') ? $adapter->getType() : '',
                    'host' => isset($facts['host']) ? $facts['host'] : '',
                    'port' => isset($facts['port']) ? $facts['port'] : '',
                    'database' => isset($facts['dbname']) ? $facts['dbname'] : '',
                    'user' => isset($facts['username']) ? $facts['username'] : '',
                ]))->note(
                    $sql,
                    (string) $adapter->getSQLStatement(),
                    $began,
                    false,
                    is_array($variables) ? count($variables) : null
                );
                $began = null;
            });
        });
        return true;
    }

    /** Doctrine DBAL's Configuration, from version 3 on, before a connection is made with it: a middleware. */
    private static function doctrine($it): bool
    {
        if (!method_exists($it, 'setMiddlewares') || !interface_exists('Doctrine\\DBAL\\Driver\\Middleware')) {
            return false;
        }
        if (!class_exists(DoctrineMiddleware::class, false) && (include self::DOCTRINE) !== true) {
            return false;
        }
        $it->setMiddlewares(array_merge($it->getMiddlewares(), [new DoctrineMiddleware()]));
        return true;
    }

    /** Laravel's `db`, or one of its connections: the event after each statement. */
    private static function laravel($it): bool
    {
        if (!method_exists($it, 'listen') && !method_exists($it, 'connection')) {
            return false;
        }
        $it->listen(static function ($query) {
            Client::quietly(static function () use ($query) {
                $sql = Client::sql('laravel');
                if ($sql === null) {
                    return;
                }
                $facts = [];
                foreach (['driver', 'host', 'port', 'database', 'username'] as $name) {
                    $fact = $query->connection->getConfig($name);
                    $facts[$name === 'username' ? 'user' : $name] = is_array($fact) ? reset($fact) : $fact;
                }
                $ns = (int) ((float) $query->time * 1e6);
                (new Connection($facts))->took($sql, (string) $query->sql, $ns, false, count($query->bindings));
            });
        });
        return true;
    }
}
