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

    /** Looked at beyond what is kept of a text. */
    const AHEAD = 200;

    /** Whole words of a name; `_` may be missing between two of them (apiKey, api-key, apikey). */
    const NAMES = [
        'password', 'passwd', 'pwd', 'pass', 'token', 'auth_token', 'access_token', 'refresh_token', 'api_key',
        'secret', 'private_key', 'credit_card', 'card_number', 'cvv', 'cvc', 'ssn', 'social_security', 'otp',
        'session', 'authorization', 'csrf',
    ];

    /** Headers whose name does not tell by itself. */
    const HEADERS = ['cookie', 'set-cookie', 'x-api-key', 'x-auth-token', 'proxy-authorization', 'x-csrf-token'];

    /** Those headers where they stand in a text: to the end of the line. */
    const HEADER_LINE = '/\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token|x-csrf-token)'
        . '(\\\\?["\']?\s*+(?::|=>?)\s*+)[^\r\n"\']{2,}+/i';

    const NUMBERS = '/(?<![0-9])[0-9]{4}([ .+-]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?![0-9])/';
    const USERS = '#\b([a-z][a-z0-9+.-]{0,30}://)[^/\s"\'?\#]*@#i';
    const BEARERS = '/\b(Bearer|Basic)[\s+]+[A-Za-z0-9._~+\/=-]{6,}/i';

    /** `name =`, as in URLs, JSON, PHP and prose; with the `_` that PHP makes of a space in the name of a field. */
    const NAME = '/(?<!\w)(\w[\w.\-]*+(?:\[[^\]\s]{0,40}\]|\])*+)\\\\*+["\']?[\s+_]*+(?:=>|[=:])[\s+]*+/';

    /** What stands behind it: a quoted value to its closing quote, a list to the end of the text. */
    const VALUE = '/[\s+_]*+(?:(?:array|object)?(?:\([\w\\\\]*+\))?[\s+_]*+[\[{(].*+|\\\\++"[^"]*+"?'
        . '|"(?:[^"\\\\]|\\\\.)*+"?|\'(?:[^\'\\\\]|\\\\.)*+\'?|[^\s"\',;&)\]}#]++)/Asi';

    /** How often a text may be encoded for a URL: a URL within one within one. */
    const ENCODED = 4;

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
            $name = self::words((string) $name);
            if ($name === null) {
                return '/^/';
            }
            $name = trim($name, '_');
            if ($name !== '') {
                $words[] = str_replace('_', '_?', preg_quote($name, '/'));
            }
        }
        return '/(?:^|_)(?:' . implode('|', $words) . ')s?(?:_|$)/D';
    }

    /** Whether a value of this name is a secret. Whole words only: `userPassword` is, `compass` is not. */
    public function tells(string $name): bool
    {
        if (strlen($name) > Limits::STRING) {
            return true;
        }
        if (!isset($this->judged[$name])) {
            $this->telling = $this->telling === null ? $this->telling() : $this->telling;
            $words = self::words($name);
            $found = $words === null ? false : preg_match($this->telling, $words);
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
            $name = is_int($key) ? $this->number($key) : $this->text($key, Limits::KEY);
            if (is_string($key) && ($namesOnly || $this->tells($key))) {
                $out[$name] = self::MARK;
                continue;
            }
            $key = $name;
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
            return $this->number($value);
        }
        if ($value === null || is_bool($value)) {
            return $value;
        }
        if (is_float($value)) {
            return is_finite($value) ? $this->number($value) : (string) $value;
        }
        // Never the object's own __toString() or jsonSerialize(): that would be the application's code.
        return is_object($value) ? 'object ' . get_class($value) : gettype($value);
    }

    /** A card typed into a number field, as a number, or taken for the name of a field by PHP. */
    private function number($value)
    {
        return abs($value) >= 1e15 && abs($value) < 1e16 ? self::CARD : $value;
    }

    /** One string without secrets, at most $most bytes and the mark that it was cut. */
    public function text(string $text, int $most = Limits::STRING): string
    {
        // Redact first, then cut: a card cut in half would no longer look like one.
        $window = $most + self::AHEAD;
        $out = substr($text, 0, $window);
        if (preg_match('/[0-9=:%]/', $out) !== 0) {
            $out = $this->decoded($out);
            if ($out === null) {
                return self::MARK;
            }
        } elseif (preg_match('/\b(Bearer|Basic)\s/i', $out) !== 0) {
            return self::MARK;
        }
        if (strlen($text) > $window) {
            // What was cut off within its last bytes may be half a secret, and the marks may have moved it forward.
            $out = substr($out, 0, -self::AHEAD);
        }
        return strlen($text) > $most || strlen($out) > $most + 20 ? substr($out, 0, $most) . self::CUT : $out;
    }

    /** A text without secrets, decoded as often as one was found by that; null where it fails. */
    private function decoded(string $text): ?string
    {
        $out = $plain = $this->clean($text);
        for ($i = 0; $i < self::ENCODED && $plain !== null && strpos($plain, '%') !== false; $i++) {
            $next = rawurldecode($plain);
            $plain = $this->clean($next);
            if ($plain !== $next) {
                $out = $plain;
            }
        }
        return $out;
    }

    private function clean(string $text): ?string
    {
        $marks = [self::CARD, '$1' . self::MARK . '@', '$1 ' . self::MARK, '$1$2' . self::MARK];
        $out = preg_replace([self::NUMBERS, self::USERS, self::BEARERS, self::HEADER_LINE], $marks, $text);
        return $out === null ? null : $this->pairs($out);
    }

    /** A text without the values of telling names in it; null where that fails. */
    private function pairs(string $text): ?string
    {
        $out = '';
        $at = 0;
        while (($found = preg_match(self::NAME, $text, $name, PREG_OFFSET_CAPTURE, $at)) === 1) {
            $end = $name[0][1] + strlen($name[0][0]);
            $out .= substr($text, $at, $end - $at);
            $at = $end;
            // With what stands in brackets: `user[password]`. Else its value may be a pair itself.
            if ($this->tells($name[1][0])) {
                $taken = preg_match(self::VALUE, $text, $value, 0, $at);
                if ($taken === false) {
                    return null;
                }
                if ($taken === 1) {
                    $out .= self::MARK;
                    $at += strlen($value[0]);
                }
            }
        }
        return $found === false ? null : $out . substr($text, $at);
    }

    /** Headers as they may be sent: name => value. */
    public function headers(array $headers, string $capture): array
    {
        $out = [];
        foreach (array_slice($headers, 0, 100, true) as $name => $value) {
            $lower = strtolower((string) $name);
            $value = (string) $value;
            if ($capture === 'names' || in_array($lower, self::HEADERS, true) || $this->tells((string) $name)) {
                $value = self::MARK;
            } elseif ($lower === 'referer' || $lower === 'location') {
                $value = $this->text(self::withoutQuery($value), Limits::HEADER);
            } else {
                $value = $this->text($value, Limits::HEADER);
            }
            $out[$this->text((string) $name, Limits::KEY)] = $value;
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

    private static function withoutQuery(string $url): string
    {
        $at = strpos($url, '?');
        return $at === false ? $url : substr($url, 0, $at) . '?' . self::MARK;
    }

    /** `X-CSRFToken`, `apiKey2` as `x_csrf_token`, `api_key_`; null where that fails. */
    private static function words(string $name): ?string
    {
        $patterns = ['/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/', '/[^A-Za-z]+/'];
        $apart = preg_replace($patterns, '_', $name);
        return $apart === null ? null : strtolower($apart);
    }
}
