<?php

declare(strict_types=1);

namespace BitvilleApm;

/**
 * How each dialect of SQL is read: its tokens, as patterns of PCRE (sqltext.py tells the rules).
 *
 * Every repetition is possessive, so neither pcre.backtrack_limit nor the stack of PCRE's compiler is a question of
 * the text.
 */
final class Dialect
{
    // Classes of bytes. Those above ASCII are letters, as they are to all three databases.
    private const FIRST = 'A-Za-z_\x80-\xff';
    private const WORD = 'A-Za-z_\x80-\xff0-9$';
    private const SPACE = '\x00-\x20\x7f';

    private const TAG = '\$(?:[' . self::FIRST . '][' . self::FIRST . '0-9]*+)?+\$';
    private const NUMBER = '(?:(?<![' . self::WORD . '`"\])])\.)?+[0-9](?:[eE][-+][0-9]|[' . self::WORD . '.])*+';
    private const MARKER = '\?[0-9]*+|:[' . self::WORD . ']++|\$[0-9][' . self::WORD . ']*+'
        . '|%(?:[0-9]++\$)?[dfis](?![' . self::WORD . '])';
    private const PREFIX = '(?:[bBnNxX]|[uU]&)?+';

    /** @var array<string, array<string, string>> what patterns() gave, by dialect */
    private static $patterns = [];

    /**
     * `token`: one token, told by its group: 1 kept, 2 white space, 3 literal, 4 opener, 5 any other byte. `literals`:
     * the next literal, wherever it is; `whites`: the next white space or plain comment of a text without literals.
     */
    public static function patterns(string $dialect): array
    {
        if (isset(self::$patterns[$dialect])) {
            return self::$patterns[$dialect];
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
        // Words of two letters first: no prefix of a string is one.
        $words = '[' . self::FIRST . '][' . self::WORD . ']++';
        $kept = "(?:{$words}(?: {$words})*+|(?!(?:[bBeEnNxX]|[uU]&)')[" . self::FIRST . ']|[=<>,;!+&|^~(){}\]\\\\'
            . "{$run}]++| (?![" . self::SPACE . '/#-]|\*/)|\.(?![0-9])|\*(?!/)|-(?!-)|/(?!\*)|::)++|' . $names;
        $literal = implode('|', $literals) . '|' . self::NUMBER . '|' . self::MARKER;
        $white = '(?:[' . self::SPACE . "]|{$space})++";
        // A comment on whose end all dialects agree.
        $comment = '/\*(?!M?!)[^*/]*+(?:\*(?!/)[^*/]*+|/(?!\*)[^*/]*+)*+\*/';
        $apart = self::SPACE . ',()=<>';
        $patterns = [
            'token' => "({$kept})|({$white})|({$literal})|({$opener})|(.)",
            // Most of a text is words and what never begins anything; a quote or a digit that is not kept always does.
            'literals' => "\\G(?:{$words}(?:[{$apart}.]++{$words})*+[{$apart}]*+|{$kept}|{$white}|{$comment}"
                . "|(?!{$literal}|{$opener})[^'\"0-9?])*+"
                . "\\K(?:{$literal}|(?!{$opener}).++)",
            // No quote is left but those of names.
            'whites' => "\\G(?:{$names}|(?:[^-`\"\\[#*/" . self::SPACE . ']++| (?![' . self::SPACE . '/#-]|\*/))++'
                . "|(?!{$white}|{$opener}).)*+\\K(?:{$white}|{$comment})++",
        ];
        foreach ($patterns as $name => $pattern) {
            $patterns[$name] = '/' . str_replace('/', '\/', $pattern) . '/As';
        }
        return self::$patterns[$dialect] = $patterns;
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
}
