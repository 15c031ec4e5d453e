<?php
namespace BitvilleApm;

/**
 * Notes the calls of an HTTP client that the application hands over, by the client's own means:
 * `$client = bitville_apm_attach_http($client)` (PHP-16).
 */
final class HttpClients
{
    const SYMFONY = __DIR__ . '/symfony.php';

    /** Objects that are listened to already. */
    private static $attached = [];

    /** What to use from here on; null for something we do not know. */
    public static function attach($client)
    {
        if (!is_object($client)) {
            return null;
        }
        if (is_a($client, 'Symfony\\Contracts\\HttpClient\\HttpClientInterface')) {
            return self::symfony($client);
        }
        foreach (self::$attached as $before) {
            if ($before === $client) {
                return $client;
            }
        }
        if (!self::guzzle($client) && !self::laravel($client)) {
            return null;
        }
        self::$attached[] = $client;
        return $client;
    }

    /** Notes a call to a URL that began at $beganNs and ends now. */
    public static function ended(string $url, int $beganNs): void
    {
        self::took($url, (hrtime(true) - $beganNs) / 1e6);
    }

    private static function took(string $url, float $ms): void
    {
        Client::quietly(static function () use ($url, $ms) {
            $request = Client::request();
            if ($request !== null) {
                $request->calls()->to($url, $ms);
            }
        });
    }

    /** Guzzle's HandlerStack, from version 6 on: a middleware right above the wire, so that each redirect is a call. */
    private static function guzzle($stack): bool
    {
        if (!is_a($stack, 'GuzzleHttp\\HandlerStack')) {
            return false;
        }
        $stack->push(static function ($handler) {
            return static function ($request, array $options) use ($handler) {
                $beganNs = hrtime(true);
                $url = (string) $request->getUri();
                $promise = $handler($request, $options);
                $done = static function () use ($url, $beganNs) {
                    HttpClients::ended($url, $beganNs);
                };
                if (is_object($promise) && method_exists($promise, 'then')) {
                    $promise->then($done, $done);
                }
                return $promise;
            };
        }, 'bitville_apm');
        return true;
    }

    /** Laravel's dispatcher of events, from version 8 on. */
    private static function laravel($events): bool
    {
        if (!is_a($events, 'Illuminate\\Contracts\\Events\\Dispatcher')) {
            return false;
        }
        $began = [];
        $events->listen('Illuminate\\Http\\Client\\Events\\RequestSending', static function ($event) use (&$began) {
            Client::quietly(static function () use ($event, &$began) {
                $began[(string) $event->request->url()] = hrtime(true);
                // Without those that never said how they ended.
                $began = array_slice($began, -Limits::CALLS, null, true);
            });
        });
        $ended = static function ($event) use (&$began) {
            Client::quietly(static function () use ($event, &$began) {
                $url = (string) $event->request->url();
                $stats = isset($event->response->transferStats) ? $event->response->transferStats : null;
                $ms = isset($began[$url]) ? (hrtime(true) - $began[$url]) / 1e6 : 0.0;
                unset($began[$url]);
                // Of several at once only Guzzle knows each one's time.
                self::took($url, is_object($stats) ? $stats->getTransferTime() * 1e3 : $ms);
            });
        };
        $events->listen('Illuminate\\Http\\Client\\Events\\ResponseReceived', $ended);
        $events->listen('Illuminate\\Http\\Client\\Events\\ConnectionFailed', $ended);
        return true;
    }

    private static function symfony($client)
    {
        if (!class_exists(SymfonyHttpClient::class, false) && (include self::SYMFONY) !== true) {
            return null;
        }
        return $client instanceof SymfonyHttpClient ? $client : new SymfonyHttpClient($client);
    }
}
