<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Dialect;
use BitvilleApm\Statement;
use PHPUnit\Framework\TestCase;

/** Statements without their values; tests/test_sqltext.py compares them with the agent's over any text. */
final class StatementTest extends TestCase
{
    private static function unescaped(string $field): string
    {
        return preg_replace_callback('/\\\\(?:x([0-9a-f]{2})|(.))/', static function (array $match): string {
            $known = ['t' => "\t", 'n' => "\n", 'r' => "\r"];
            return isset($match[2]) ? strtr($match[2], $known) : chr(hexdec($match[1]));
        }, $field);
    }

    public static function vectors(): \Generator
    {
        foreach (file(dirname(__DIR__, 2) . '/wire/statements.tsv', FILE_IGNORE_NEW_LINES) as $i => $line) {
            if ($i > 0) {
                [$dialect, $sql, $statement, $fingerprint] = explode("\t", $line);
                $texts = [self::unescaped($sql), self::unescaped($statement)];
                yield 'line ' . ($i + 1) => [$dialect, $texts[0], $texts[1], $fingerprint];
            }
        }
    }

    /**
     * PHP-06: every shared vector gives its statement and its fingerprint in PHP.
     *
     * @dataProvider vectors
     */
    public function testVectors(string $dialect, string $sql, string $statement, string $fingerprint): void
    {
        $got = Statement::normalise($sql, $dialect);
        self::assertSame($statement, $got);
        self::assertSame($fingerprint, Statement::fingerprint($got));
    }

    /** PHP-06: there are as many vectors as were promised. */
    public function testThereAreVectors(): void
    {
        self::assertGreaterThanOrEqual(200, iterator_count(self::vectors()));
    }

    public static function dialects(): iterable
    {
        foreach (['mysql', 'pg', 'sqlite', 'unknown'] as $dialect) {
            yield $dialect => [$dialect];
        }
    }

    /**
     * PHP-06: whatever byte comes next is a token of every dialect, so that the reading of a text goes on to its end.
     *
     * @dataProvider dialects
     */
    public function testEveryByteIsAToken(string $dialect): void
    {
        $pattern = Dialect::patterns($dialect)['token'];
        for ($byte = 0; $byte < 256; $byte++) {
            foreach (['', 'a', "'", ' ', '*/', "\n"] as $more) {
                self::assertSame(1, preg_match($pattern, chr($byte) . $more, $token), "byte $byte");
                self::assertNotSame('', $token[0], "byte $byte");
            }
        }
    }

    /** PHP-06: a dialect that nobody knows is read as `unknown`, which takes most for a literal. */
    public function testAnyOtherDialect(): void
    {
        $sql = "select \"a\", 'b\\' c' -- d";
        self::assertSame(Statement::normalise($sql, 'unknown'), Statement::normalise($sql, 'oracle'));
        self::assertSame(Dialect::patterns('unknown'), Dialect::patterns('oracle'));
    }

    /** PHP-06: the name of a statement is blind to the case of ASCII letters, whatever the locale, and to its end. */
    public function testFingerprints(): void
    {
        self::assertMatchesRegularExpression('/^[0-9a-f]{16}$/D', Statement::fingerprint(''));
        self::assertSame(Statement::fingerprint('SELECT É'), Statement::fingerprint('select É'));
        self::assertNotSame(Statement::fingerprint('select É'), Statement::fingerprint('select é'));
        $long = str_repeat('x', Statement::FINGERPRINT_BYTES);
        self::assertSame(Statement::fingerprint($long), Statement::fingerprint($long . 'y'));
        self::assertNotSame(Statement::fingerprint($long), Statement::fingerprint(substr($long, 1) . 'y'));
    }

    /**
     * PHP-09: where PCRE refuses a text an exception says so, with nothing of the text in it.
     *
     * @runInSeparateProcess
     * @preserveGlobalState disabled
     */
    public function testARefusalTellsNothing(): void
    {
        $limit = ini_set('pcre.backtrack_limit', '0');
        ini_set('pcre.jit', '0');
        try {
            $said = Statement::normalise("select 'geheim' from t where a = \$x\$geheim\$x\$", 'pg');
        } catch (\RuntimeException $e) {
            $said = $e->getMessage();
        } finally {
            ini_set('pcre.backtrack_limit', (string) $limit);
        }
        self::assertSame('cannot read the SQL text: PCRE error ' . PREG_BACKTRACK_LIMIT_ERROR, $said);
    }
}
