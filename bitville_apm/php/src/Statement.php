<?php

declare(strict_types=1);

namespace BitvilleApm;

/**
 * The shape of a SQL text: literals out, comments out, lists folded; and the name of that shape.
 *
 * The same function as sqltext.py, byte for byte; the rules are told there, the vectors of both are in
 * tests/wire/statements.tsv. Every repetition is possessive, so neither pcre.backtrack_limit nor the stack of PCRE's
 * compiler is a question of the text. Should PCRE refuse all the same, a \RuntimeException leaves and no text does.
 */
final class Statement
{
    /** As in limits.py, where the reasons are. */
    public const INPUT_BYTES = 16384;
    public const FINGERPRINT_BYTES = 900;

    // Classes of bytes. Those above ASCII are letters, as they are to all three databases.
    private const FIRST = 'A-Za-z_\x80-\xff';
    private const WORD = 'A-Za-z_\x80-\xff0-9$';
    private const SPACE = '\x00-\x20\x7f';

    private const TAG = '\$(?:[' . self::FIRST . '][' . self::FIRST . '0-9]*+)?+\$';
    private const NUMBER = '(?:(?<![' . self::WORD . '`"\])])\.)?+[0-9](?:[eE][-+][0-9]|[' . self::WORD . '.])*+';
    private const MARKER = '\?[0-9]*+|:[' . self::WORD . ']++|\$[0-9][' . self::WORD . ']*+'
        . '|%(?:[0-9]++\$)?[dfis](?![' . self::WORD . '])';
    private const PREFIX = '(?:[bBnNxX]|[uU]&)?+';

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

    /** @var array<string, string> one token of each dialect, built when first asked for */
    private static $tokens = [];

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
        $dialect = in_array($dialect, ['mysql', 'pg', 'sqlite'], true) ? $dialect : 'unknown';
        return self::utf8(self::fold(self::withoutLiterals(self::cut($sql), $dialect)));
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

    /** The first bytes, less a character that the cut would split. */
    private static function cut(string $sql): string
    {
        $size = self::INPUT_BYTES;
        if (strlen($sql) <= $size) {
            return $sql;
        }
        $end = $size;
        while ($end > $size - 3 && (ord($sql[$end]) & 0xC0) === 0x80) {
            $end--;
        }
        return substr($sql, 0, (ord($sql[$end]) & 0xC0) === 0x80 ? $size : $end);
    }

    /** The tokens with `?` for each literal and one space for each stretch of white space and comments. */
    private static function withoutLiterals(string $sql, string $dialect): string
    {
        $pattern = self::token($dialect);
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
        if (strpos($text, '-?') !== false || strpos($text, '+?') !== false) {
            $text = self::replace(self::SIGNED, '$1', $text);
        }
        if (strpos($text, '?') !== false) {
            foreach (self::LISTS as $pattern => $by) {
                $text = self::replace($pattern, $by, $text);
            }
        }
        return self::firstRows($text);
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

    /** A string up to its closing quote or the end of the text; $backslash is plain, escape or unsure. */
    private static function string(string $quote, string $backslash): string
    {
        if ($backslash === 'plain') {
            return "{$quote}[^{$quote}]*+(?:{$quote}{$quote}[^{$quote}]*+)*+(?:{$quote}|\\z)";
        }
        $pair = $backslash === 'escape' ? '\\\\.' : "\\\\[^{$quote}]";
        $rest = $backslash === 'escape' ? '' : "|\\\\{$quote}.*+";
        $plain = "[^{$quote}\\\\]*+";
        return "{$quote}{$plain}(?:(?:{$quote}{$quote}|{$pair}){$plain})*+(?:{$quote}|\\\\?\\z{$rest})";
    }

    /** A quoted name that is closed. */
    private static function name(string $quote): string
    {
        return "{$quote}[^{$quote}]*+(?:{$quote}{$quote}[^{$quote}]*+)*+{$quote}";
    }

    /** One token of a dialect, told by its group: 1 kept, 2 white space, 3 literal, 4 opener, 5 any other byte. */
    private static function token(string $dialect): string
    {
        if (isset(self::$tokens[$dialect])) {
            return self::$tokens[$dialect];
        }
        $word = '[' . self::FIRST . '][' . self::WORD . ']*+';
        $escaped = self::string("'", 'escape');
        // Postgres reads a string that goes on after a line break as it read its beginning.
        $postgresE = "[eE]{$escaped}(?:[ \\t\\f\\x0b]*+[\\r\\n][ \\t\\r\\n\\f\\x0b]*+{$escaped})*+";
        $dashes = '--(?=[' . self::SPACE . ']|\z)';
        switch ($dialect) {
            case 'mysql':
                $run = '@\[';
                $space = $dashes . '[^\n]*+|#[^\n]*+';
                $names = self::name('`') . '|\$' . $word;
                $literals = [self::PREFIX . $escaped, self::string('"', 'escape'), '`.*+'];
                $opener = '/\*(?:M?![0-9]*+)?+|\*/';
                break;
            case 'pg':
                $run = '@`#\[';
                $space = '--[^\r\n]*+';
                $names = self::name('"');
                $literals = [
                    self::PREFIX . self::string("'", 'plain'),
                    $postgresE,
                    '".*+',
                    '(?!' . self::TAG . ')\$' . $word,
                ];
                $opener = '/\*|' . self::TAG;
                break;
            case 'sqlite':
                $run = '#';
                $space = '--[^\n]*+';
                $names = self::name('`') . '|' . self::name('"') . '|\[[^\]]*+\]';
                $literals = [self::PREFIX . self::string("'", 'plain'), '[`"\[].*+', '[@$]' . $word];
                $opener = '/\*';
                break;
            default:
                $run = '@';
                $space = $dashes . '[^\r\n]*+(?:\r?\n|\z)';
                $names = self::name('`');
                $literals = [
                    '(?:--|#(?![>-])|`|/\*M?!|' . self::TAG
                        . '|\[[' . self::SPACE . ']*+[^' . self::SPACE . '\[\]\'"`][^\[\]\'"`]*+[\'"`]).*+',
                    self::PREFIX . self::string("'", 'unsure'),
                    self::string('"', 'unsure'),
                    $postgresE,
                    '\$' . $word,
                ];
                $opener = '/\*';
        }
        $kept = "(?:(?!(?:[bBeEnNxX]|[uU]&)'){$word}|[=<>,;!+&|^~(){}\\]\\\\{$run}]| (?![" . self::SPACE . '/#-]|\*/)'
            . '|\.(?![0-9])|\*(?!/)|-(?!-)|/(?!\*)|::)++|' . $names;
        $literal = implode('|', $literals) . '|' . self::NUMBER . '|' . self::MARKER;
        $white = '(?:[' . self::SPACE . "]|{$space})++";
        $pattern = "({$kept})|({$white})|({$literal})|({$opener})|(.)";
        return self::$tokens[$dialect] = '/' . str_replace('/', '\/', $pattern) . '/As';
    }
}
