<?php
/**
 * What an application may call (PHP-10). Each does nothing while profiling is off, and is defined only if its name is
 * still free.
 */

if (!function_exists('bitville_apm_is_active')) {
    /** Whether this request is being measured. */
    function bitville_apm_is_active(): bool
    {
        return \BitvilleApm\Client::request() !== null;
    }
}

if (!function_exists('bitville_apm_correlation_id')) {
    /** The id of this request or job, a version 4 UUID; empty while nothing is measured. */
    function bitville_apm_correlation_id(): string
    {
        $request = \BitvilleApm\Client::request();
        return $request === null ? '' : $request->id();
    }
}

if (!function_exists('bitville_apm_get_correlation_id')) {
    /** The first version's name of bitville_apm_correlation_id(). */
    function bitville_apm_get_correlation_id(): string
    {
        return bitville_apm_correlation_id();
    }
}

if (!function_exists('bitville_apm_sql_comment')) {
    /** A comment to put in front of a statement, so that Postgres' own views name the request; may be empty. */
    function bitville_apm_sql_comment(): string
    {
        $id = bitville_apm_correlation_id();
        return $id === '' ? '' : '/* correlation:' . $id . ' */ ';
    }
}

if (!function_exists('bitville_apm_add_context')) {
    /** Adds a value of the application's own to the record; redacted and bounded like everything else. */
    function bitville_apm_add_context($key, $value): void
    {
        \BitvilleApm\Client::quietly(static function () use ($key, $value) {
            $request = \BitvilleApm\Client::request();
            if ($request !== null && is_scalar($key)) {
                $request->addContext((string) $key, $value);
            }
        });
    }
}

if (!function_exists('bitville_apm_set_endpoint')) {
    /** Names the endpoint of this request, as a router knows it: `product/{id}`. */
    function bitville_apm_set_endpoint($name): void
    {
        \BitvilleApm\Client::quietly(static function () use ($name) {
            $request = \BitvilleApm\Client::request();
            if ($request !== null && is_scalar($name)) {
                $request->endpoint()->setRoute((string) $name);
            }
        });
    }
}

if (!function_exists('bitville_apm_external')) {
    /** Notes a call to another host that has just ended and took $ms milliseconds. */
    function bitville_apm_external($host, $ms): void
    {
        \BitvilleApm\Client::quietly(static function () use ($host, $ms) {
            $request = \BitvilleApm\Client::request();
            if ($request !== null && is_scalar($host) && is_numeric($ms) && \BitvilleApm\Client::rest()) {
                $request->calls()->add((string) $host, (float) $ms);
            }
        });
    }
}

if (!function_exists('bitville_apm_attach_sql')) {
    /**
     * Listens to the statements of a framework: Laravel's `db`, Doctrine's Configuration, Phalcon's container or `db`.
     * Answers whether it is one of those.
     */
    function bitville_apm_attach_sql($it): bool
    {
        return \BitvilleApm\Client::quietly(static function () use ($it) {
            return \BitvilleApm\Client::rest() && \BitvilleApm\Frameworks::attach($it);
        }) === true;
    }
}

if (!function_exists('bitville_apm_attach_http')) {
    /**
     * Notes the calls of an HTTP client: Guzzle's HandlerStack, Laravel's `events`, Symfony's HttpClientInterface.
     * Answers what to use from here on; what it does not know comes back as it is.
     */
    function bitville_apm_attach_http($client)
    {
        $attached = \BitvilleApm\Client::quietly(static function () use ($client) {
            return \BitvilleApm\Client::rest() ? \BitvilleApm\HttpClients::attach($client) : null;
        });
        return $attached === null ? $client : $attached;
    }
}

if (!function_exists('bitville_apm_sql')) {
    /** Notes a statement, with its literals, that took $ms milliseconds and has just ended. */
    function bitville_apm_sql($statement, $ms, $failed = false): void
    {
        \BitvilleApm\Client::quietly(static function () use ($statement, $ms, $failed) {
            $sql = \BitvilleApm\Client::sql('helper');
            if ($sql !== null && is_scalar($statement) && is_numeric($ms) && $ms >= 0 && $ms < 1e12) {
                (new \BitvilleApm\Connection([]))->took($sql, (string) $statement, (int) ($ms * 1e6), (bool) $failed);
            }
        });
    }
}

if (!function_exists('bitville_apm_begin')) {
    /** Begins a job of a long-running worker by hand. What was being measured before, ends. */
    function bitville_apm_begin($name): void
    {
        \BitvilleApm\Client::quietly(static function () use ($name) {
            \BitvilleApm\Client::begin(is_scalar($name) ? (string) $name : 'job');
        });
    }
}

if (!function_exists('bitville_apm_end')) {
    /** Ends the job that bitville_apm_begin() began; until the next one nothing is measured. */
    function bitville_apm_end(): void
    {
        \BitvilleApm\Client::quietly(static function () {
            \BitvilleApm\Client::end();
        });
    }
}

if (!function_exists('bitville_apm_check_socket')) {
    /** Where the client looks for its agent, and what it finds there (COMM-10). */
    function bitville_apm_check_socket(): array
    {
        $found = \BitvilleApm\Client::quietly(static function () {
            $config = \BitvilleApm\Client::config();
            if ($config === null) {
                return null;
            }
            clearstatcache();
            return [
                'socket_path' => $config->socket,
                'exists' => file_exists($config->socket),
                'is_socket' => is_link($config->socket) || file_exists($config->socket)
                    ? filetype((string) realpath($config->socket)) === 'socket'
                    : false,
                'writable_dir' => is_writable($config->spool),
            ];
        });
        $nothing = ['socket_path' => '', 'exists' => false, 'is_socket' => false, 'writable_dir' => false];
        return is_array($found) ? $found : $nothing;
    }
}
