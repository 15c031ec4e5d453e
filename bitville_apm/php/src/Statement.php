<?php

declare(strict_types=1);

namespace BitvilleApm;

/**
 * The shape of a SQL text: literals out, comments out, lists folded; and the name of that shape.
 *
 * The same function as sqltext.py, byte for byte; the rules are told there, the vectors of both are in
 * tests/wire/statements.tsv. Should PCRE refuse a text, a \RuntimeException leaves and no text does.
 */
final class Statement
{
    /** As in limits.py, where the reasons are. */
    public const INPUT_BYTES = 16384;
    public const FINGERPRINT_BYTES = 900;

    // Here once more: what another class holds PHP would put together anew in each request.
    private const WORD = 'A-Za-z_\x80-\xff0-9$';
    private const SPACE = '\x00-\x20\x7f';

    private const WHITE = 2;
    private const LITERAL = 3;
    private const OPENER = 4;

    private const SIGNED = '/(^|[=<>(,\[{+*\/%|&^~!-] ?|(?<![' . self::WORD . '.])(?:AND|BETWEEN|BY|CASE|DEFAULT|ELSE'
        . '|HAVING|INTERVAL|LIKE|LIMIT|NOT|OFFSET|ON|OR|RETURNING|SELECT|THEN|WHEN|WHERE) )[-+]++(?=\?)/i';
    private const LISTS = [
        '/([(\[]) ?\?(?: ?, ?\?)*+ ?(?:([)\]])|,? ?\z)/' => '$1?$2',
        '/\( ?\(\?\)(?: ?, ?\(\?\))*+ ?(?:(\))|(?:,(?: ?\(\??)?)? ?\z)/' => '((?)$1',
    ];
    private const VALUES = '/(?<![' . self::WORD . '.@])VALUES ?(?=\()/i';
    private const NEXT_ROW = '/ ?, ?(?:(?=\()|\z)/A';

    /** One character of UTF-8, after the table of RFC 3629. */
    private const CHARACTER = '[\x00-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]'
        . '|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}'
        . '|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}';

    /**
     * The text without its values: `WHERE id IN (4, 7)` gives `WHERE id IN (?)`.
     *
     * $dialect is mysql, pg, sqlite or unknown; any other word is unknown. Only the first bytes are read
     * (INPUT_BYTES). A byte that is not UTF-8 becomes U+FFFD.
     *
     * @throws \RuntimeException when PCRE fails, with nothing of the text in it
     */
    public static function normalise(string $sql, string $dialect = 'unknown'): string
    {
        if ($dialect !== 'mysql' && $dialect !== 'pg' && $dialect !== 'sqlite') {
            $dialect = 'unknown';
        }
        $text = self::withoutLiterals(strlen($sql) > self::INPUT_BYTES ? self::cut($sql) : $sql, $dialect);
        return self::utf8(self::fold($text));
    }

    /** The name of a statement: 16 hex digits of SHA-256 over its first bytes, ASCII letters in lower case. */
    public static function fingerprint(string $statement): string
    {
        // Not strtolower(): before PHP 8.2 it follows the locale.
        $data = strtr(
            substr($statement, 0, self::FINGERPRINT_BYTES),
            'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
            'abcdefghijklmnopqrstuvwxyz'
        );
        return substr(hash('sha256', $data), 0, 16);
    }

    /** The first bytes of a longer text, less a character that the cut would split. */
    private static function cut(string $sql): string
    {
        $size = self::INPUT_BYTES;
        $end = $size;
        while ($end > $size - 3 && (ord($sql[$end]) & 0xC0) === 0x80) {
            $end--;
        }
        return substr($sql, 0, (ord($sql[$end]) & 0xC0) === 0x80 ? $size : $end);
    }

    /** The tokens with `?` for each literal and one space for each stretch of white space and comments. */
    private static function withoutLiterals(string $sql, string $dialect): string
    {
        $out = self::atOnce($sql, $dialect);
        return $out === null ? self::byToken($sql, $dialect) : $out;
    }

    /**
     * The same by two replacements, in half the time; null where a text has what they do not know: a comment in a
     * comment, `/*!`, `$tag$`, and where PCRE fails.
     *
     * (Dialect has both.) The first walks over the same tokens as byToken() and replaces the literals; without those the second finds the
     * same tokens again and replaces white space. What neither knows would end as a literal, with all that follows.
     */
    private static function atOnce(string $sql, string $dialect): ?string
    {
        if ($dialect === 'pg' && strpos($sql, '$') !== strrpos($sql, '$')) {
            return null;
        }
        $patterns = Dialect::patterns($dialect);
        $out = preg_replace($patterns['literals'], '?', $sql);
        $out = $out === null ? null : preg_replace($patterns['whites'], ' ', $out);
        return $out === null || strpos($out, '/*') !== false || strpos($out, '*/') !== false ? null : $out;
    }

    /** The same one token after another. */
    private static function byToken(string $sql, string $dialect): string
    {
        $pattern = Dialect::patterns($dialect)['token'];
        $length = strlen($sql);
        $out = '';
        $position = 0;
        $spaced = true; // nothing yet, or white space last
        $runsComment = false; // inside MySQL's /*! */
        while ($position < $length) {
            if (preg_match($pattern, $sql, $token, 0, $position) !== 1) {
                throw self::failure();
            }
            $text = $token[0];
            $position += strlen($text);
            $kind = count($token) - 1; // the groups after the one that matched are left out
            if ($runsComment && $kind !== self::OPENER && strpos($text, '*/') !== false) {
                return $out . '?';
            }
            if ($kind === self::LITERAL) {
                $out .= '?';
            } elseif ($kind === self::WHITE) {
                $out .= $spaced ? '' : ' ';
            } elseif ($kind !== self::OPENER) {
                $out .= $text;
            } elseif ($text[0] === '$') {
                $position = self::after($sql, $text, $position);
                $out .= '?';
            } elseif ($text === '*/' && !$runsComment) {
                $out .= '*';
                $position--;
            } else {
                if ($text === '*/' || strpos($text, '!') !== false) {
                    $runsComment = $text !== '*/';
                } else {
                    $position = $runsComment ? -1 : self::commentEnd($sql, $position, $dialect);
                    if ($position < 0) {
                        return $out . '?';
                    }
                }
                $out .= $spaced ? '' : ' ';
                $position = self::find('/[' . self::SPACE . ']*+/A', $sql, $position)[1];
                $kind = self::WHITE;
            }
            $spaced = $kind === self::WHITE;
        }
        return $out;
    }

    /** Where the comment whose inside begins at $start ends; -1 where the dialects do not agree on it. */
    private static function commentEnd(string $sql, int $start, string $dialect): int
    {
        if ($dialect === 'mysql' || $dialect === 'sqlite') {
            return self::after($sql, '*/', $start);
        }
        $depth = 1;
        while ($mark = self::find('/\/\*|\*\//', $sql, $start)) {
            [$text, $start] = $mark;
            if ($text === '/*') {
                if ($dialect !== 'pg') {
                    return -1;
                }
                $depth++;
            } elseif (--$depth === 0) {
                return $start;
            }
        }
        return strlen($sql);
    }

    /** The position behind the next $mark, or the end of the text. */
    private static function after(string $sql, string $mark, int $start): int
    {
        $found = strpos($sql, $mark, $start);
        return $found === false ? strlen($sql) : $found + strlen($mark);
    }

    /** Signs into their literals, lists into their first item, rows of VALUES into the first; ends trimmed. */
    private static function fold(string $text): string
    {
        $text = rtrim(trim($text, ' '), ' ;');
        // Looks for what a pattern cannot do without: each costs less than the pattern.
        if (strpos($text, '-?') !== false || strpos($text, '+?') !== false) {
            $text = self::replace(self::SIGNED, '$1', $text);
        }
        if (strpos($text, '?') !== false && (strpos($text, '(') !== false || strpos($text, '[') !== false)) {
            foreach (self::LISTS as $pattern => $by) {
                $text = self::replace($pattern, $by, $text);
            }
        }
        return stripos($text, 'values') === false ? $text : self::firstRows($text);
    }

    /** `VALUES (…), (…), (…)` with its first row only; one walk from left to right. */
    private static function firstRows(string $text): string
    {
        $out = '';
        $kept = 0;
        while ($values = self::find(self::VALUES, $text, $kept)) {
            $end = $rows = self::rowEnd($text, $values[1]);
            while ($more = self::find(self::NEXT_ROW, $text, $rows)) {
                $rows = self::rowEnd($text, $more[1]);
            }
            $out .= substr($text, $kept, $end - $kept);
            $kept = $rows;
        }
        return $out . substr($text, $kept);
    }

    /** The position behind the bracket that closes the one at $start, or the end of the text. */
    private static function rowEnd(string $text, int $start): int
    {
        $depth = 0;
        $length = strlen($text);
        for ($at = $start; ($at += strcspn($text, '()', $at)) < $length;) {
            $depth += $text[$at++] === '(' ? 1 : -1;
            if ($depth === 0) {
                return $at;
            }
        }
        return $length;
    }

    /** Valid UTF-8 as it is; else each byte outside of a character becomes U+FFFD. */
    private static function utf8(string $text): string
    {
        if (preg_match('//u', $text) === 1) {
            return $text;
        }
        return self::replace('/(?:' . self::CHARACTER . ')(*SKIP)(*FAIL)|./s', "\xef\xbf\xbd", $text);
    }

    /** @return array{string, int}|null what matched first at or behind $start, and the position behind it */
    private static function find(string $pattern, string $text, int $start): ?array
    {
        $found = preg_match($pattern, $text, $match, PREG_OFFSET_CAPTURE, $start);
        if ($found === false) {
            throw self::failure();
        }
        return $found ? [$match[0][0], $match[0][1] + strlen($match[0][0])] : null;
    }

    private static function replace(string $pattern, string $by, string $text): string
    {
        $replaced = preg_replace($pattern, $by, $text);
        if ($replaced === null) {
            throw self::failure();
        }
        return $replaced;
    }

    private static function failure(): \RuntimeException
    {
        return new \RuntimeException('cannot read the SQL text: PCRE error ' . preg_last_error());
    }
}
