<?php
namespace BitvilleApm;

/**
 * Takes secrets out of what is about to leave the process, and bounds it (PHP-09).
 *
 * Three rules: a value under a telling name goes whole; in every other string cards, credentials in URLs and
 * `name=value` pairs with a telling name go; and a value whose redaction fails is not sent at all.
 */
final class Redactor
{
    const MARK = '[REDACTED]';
    const CARD = '[CARD-REDACTED]';
    const DEEP = '[MAX_DEPTH_EXCEEDED]';
    const CUT = '...[truncated]';

    /** Whole words of a name; `_` may be missing between two of them (apiKey, api-key, apikey). */
    const NAMES = [
        'password', 'passwd', 'pwd', 'pass', 'token', 'auth_token', 'access_token', 'refresh_token', 'api_key',
        'secret', 'private_key', 'credit_card', 'card_number', 'cvv', 'cvc', 'ssn', 'social_security', 'otp',
        'session', 'authorization', 'csrf',
    ];

    /** Headers whose name does not tell by itself. */
    const HEADERS = ['cookie', 'set-cookie', 'x-api-key', 'x-auth-token', 'proxy-authorization', 'x-csrf-token'];

    /** `name = value`, as in URLs, JSON, PHP and prose; a quoted value is taken to its closing quote. */
    const PAIR = '/(?:(?<![A-Za-z0-9_])|(?<=%5B))([A-Za-z][\w.\-]{0,60}+)((?:\]|%5D)*+\\\\?["\']?\s*+(?:=>|[=:])\s*+)'
        . '(\\\\"[^"]*+"?|"(?:[^"\\\\]|\\\\.)*+"?|\'(?:[^\'\\\\]|\\\\.)*+\'?|[^\s"\',;&)\]}#]++)/si';

    private $more;

    /** The pattern of telling names; made when first needed, which for most requests is never. */
    private $telling;

    /** Names already judged; requests repeat them. */
    private $judged = [];

    /** @param string[] $more names of the settings, beside the built-in ones */
    public function __construct(array $more = [])
    {
        $this->more = $more;
    }

    private function telling(): string
    {
        $words = [];
        foreach (array_merge(self::NAMES, $this->more) as $name) {
            $name = trim(self::words((string) $name), '_');
            if ($name !== '') {
                $words[] = str_replace('_', '_?', preg_quote($name, '/'));
            }
        }
        return '/(?:^|_)(?:' . implode('|', $words) . ')s?(?:_|$)/D';
    }

    /** Whether a value of this name is a secret. Whole words only: `userPassword` is, `compass` is not. */
    public function tells(string $name): bool
    {
        $name = substr($name, 0, Limits::KEY);
        if (!isset($this->judged[$name])) {
            $this->telling = $this->telling === null ? $this->telling() : $this->telling;
            $found = preg_match($this->telling, self::words($name));
            if (count($this->judged) >= 1000) {
                $this->judged = [];
            }
            // preg's own failure counts as a secret.
            $this->judged[$name] = $found !== 0;
        }
        return $this->judged[$name];
    }

    /**
     * A map as it may be sent.
     *
     * @param string $capture `values`, or `names` to leave every value out
     */
    public function map(array $values, string $capture = 'values'): array
    {
        $left = Limits::ENTRIES;
        return $this->entries($values, $capture === 'names', 1, $left);
    }

    private function entries(array $values, bool $namesOnly, int $depth, int &$left): array
    {
        $out = [];
        foreach ($values as $key => $value) {
            if ($left-- <= 0) {
                $out[self::CUT] = true;
                break;
            }
            if (is_string($key)) {
                $name = $this->text($key, Limits::KEY);
                if ($namesOnly || $this->tells($key)) {
                    $out[$name] = self::MARK;
                    continue;
                }
                $key = $name;
            }
            try {
                if (is_array($value)) {
                    $out[$key] = $depth >= Limits::DEPTH
                        ? self::DEEP
                        : $this->entries($value, $namesOnly, $depth + 1, $left);
                } else {
                    $out[$key] = $namesOnly ? self::MARK : $this->scalar($value);
                }
            } catch (\Throwable $e) {
                $out[$key] = self::MARK;
            }
        }
        return $out;
    }

    private function scalar($value)
    {
        if (is_string($value)) {
            return $this->text($value);
        }
        if (is_int($value)) {
            // A card typed into a number field.
            return strlen((string) abs($value)) === 16 ? self::CARD : $value;
        }
        if ($value === null || is_bool($value)) {
            return $value;
        }
        if (is_float($value)) {
            return is_finite($value) ? $value : (string) $value;
        }
        // Never the object's own __toString() or jsonSerialize(): that would be the application's code.
        return is_object($value) ? 'object ' . get_class($value) : gettype($value);
    }

    /** One string without secrets, at most $most bytes and the mark that it was cut. */
    public function text(string $text, int $most = Limits::STRING): string
    {
        // Redact first, then cut: a card cut in half would no longer look like one.
        $out = substr($text, 0, $most + 200);
        if (preg_match('/[0-9=:]/', $out) === 1) {
            $out = preg_replace(
                [
                    '/(?<![0-9])[0-9]{4}([ .-]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?![0-9])/',
                    '#\b([a-z][a-z0-9+.-]{0,30}://)[^/\s@"\']*+@#i',
                    '/\b(Bearer|Basic)\s+[A-Za-z0-9._~+\/=-]{6,}/i',
                ],
                [self::CARD, '$1' . self::MARK . '@', '$1 ' . self::MARK],
                $out
            );
            if ($out !== null) {
                $out = preg_replace_callback(self::PAIR, [$this, 'pair'], $out);
            }
            if ($out === null) {
                return self::MARK;
            }
        } elseif (preg_match('/\b(Bearer|Basic)\s/i', $out) === 1) {
            return self::MARK;
        }
        return strlen($text) > $most || strlen($out) > $most + 20 ? substr($out, 0, $most) . self::CUT : $out;
    }

    /** For preg_replace_callback only. */
    public function pair(array $found): string
    {
        if (!$this->tells($found[1])) {
            // What stands in the value may be a pair itself: `url=/x?token=1`, `{"a":{"otp":1}}`.
            $inner = preg_replace_callback(self::PAIR, [$this, 'pair'], $found[3]);
            return $found[1] . $found[2] . ($inner === null ? self::MARK : $inner);
        }
        return $found[1] . $found[2] . self::MARK;
    }

    /** Headers as they may be sent: name => value. */
    public function headers(array $headers, string $capture): array
    {
        $out = [];
        foreach (array_slice($headers, 0, 100, true) as $name => $value) {
            $name = substr((string) $name, 0, Limits::KEY);
            $lower = strtolower($name);
            $value = (string) $value;
            if ($capture === 'names' || in_array($lower, self::HEADERS, true) || $this->tells($name)) {
                $value = self::MARK;
            } elseif ($lower === 'referer' || $lower === 'location') {
                $value = $this->text(self::withoutQuery($value), Limits::HEADER);
            } else {
                $value = $this->text($value, Limits::HEADER);
            }
            $out[$name] = $value;
        }
        return $out;
    }

    /**
     * A request's URI without the values of its query; their names stay unless $names is false.
     *
     * The values travel, redacted, in `request.query` of slow requests only.
     */
    public function uri(string $uri, bool $names = true): string
    {
        $parts = explode('?', $uri, 2);
        $out = $this->text($parts[0]);
        if (!$names || !isset($parts[1]) || $parts[1] === '') {
            return $out;
        }
        $kept = [];
        foreach (explode('&', substr($parts[1], 0, 2 * Limits::STRING), 22) as $i => $pair) {
            if ($i === 21) {
                break;
            }
            $pair = explode('=', $pair, 2);
            // A query that is one long value (`?aGVsbG8…`) has no names.
            $kept[] = isset($pair[1]) ? $this->text($pair[0], Limits::KEY) . '=' : '';
        }
        $query = implode('&', array_filter($kept, 'strlen'));
        return $query === '' ? $out : $out . '?' . $query;
    }

    /**
     * The message of a fatal error: without the trace of an uncaught exception (it has arguments), and without the
     * literals that databases repeat in their errors.
     */
    public function message(string $message): string
    {
        $message = preg_replace('/\s*+\n?Stack trace:\n.*+$/sD', '', substr($message, 0, 8192));
        if ($message === null) {
            return self::MARK;
        }
        if (preg_match('/SQLSTATE|sql|pg_query|QueryException/i', $message) === 1) {
            $message = preg_replace(
                [
                    '/\s*\((?:SQL|Connection):.*+$/sD',
                    '/\n.*+$/sD',
                    '/\'[^\']*+\'?|"[^"]*+"?/',
                    '/=\([^)]*+\)?/',
                    // Numbers, but for the code in `SQLSTATE[23000]`.
                    '/(?<!\[)\b\d{4,}+\b/',
                ],
                ['', '', '?', '=(?)', '?'],
                $message
            );
            if ($message === null) {
                return self::MARK;
            }
        }
        return $this->text($message);
    }

    private static function withoutQuery(string $url): string
    {
        $at = strpos($url, '?');
        return $at === false ? $url : substr($url, 0, $at) . '?' . self::MARK;
    }

    /** `X-CSRFToken`, `apiKey2` as `x_csrf_token`, `api_key_`. */
    private static function words(string $name): string
    {
        $apart = preg_replace(
            ['/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/', '/[^A-Za-z]+/'],
            '_',
            substr($name, 0, Limits::KEY)
        );
        return strtolower((string) $apart);
    }
}
