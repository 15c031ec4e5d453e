<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Message;
use BitvilleApm\Redactor;
use PHPUnit\Framework\TestCase;

/** Messages of fatal errors. */
final class MessageTest extends TestCase
{
    public static function messages(): iterable
    {
        yield 'MySQL, and the trace of the exception' => [
            "Uncaught PDOException: SQLSTATE[23000]: Duplicate entry 'joe@example.org' for key 'email' in /a.php:3\n"
                . "Stack trace:\n#0 /a.php(3): PDO->__construct('mysql:', 'root', 'hunter2')",
            'Uncaught PDOException: SQLSTATE[23000]: Duplicate entry ? for key ? in /a.php:3',
        ];
        yield 'Postgres, and its detail' => [
            "SQLSTATE[23505]: ERROR: duplicate key value violates \"u\"\nDETAIL: Key (email)=(joe@x) already exists.",
            'SQLSTATE[23505]: ERROR: duplicate key value violates ?',
        ];
        yield 'Postgres, on one line' => [
            'SQLSTATE[23505]: Key (email)=(joe@x) already exists.',
            'SQLSTATE[23505]: Key (email)=(?) already exists.',
        ];
        yield 'Laravel, and its statement' => [
            'SQLSTATE[42S02]: gone (Connection: mysql, SQL: insert into t values (joe))',
            'SQLSTATE[42S02]: gone',
        ];
        yield 'numbers' => [
            'mysqli_sql_exception: out of range value 4711 at row 1',
            'mysqli_sql_exception: out of range value ? at row 1',
        ];
        yield 'a quote that is cut off' => ["pg_query(): syntax error at 'joe", 'pg_query(): syntax error at ?'];
        yield 'no database' => ['Class "Foo" not found', 'Class "Foo" not found'];
        yield 'no literal' => [
            'Allowed memory size of 1048576 bytes exhausted',
            'Allowed memory size of 1048576 bytes exhausted',
        ];
        yield 'any trace' => [
            "Uncaught Exception: x in /a.php:1\nStack trace:\n#0 f('geheim')",
            'Uncaught Exception: x in /a.php:1',
        ];
        yield 'a telling name' => ['Uncaught Exception: password=geheim', 'Uncaught Exception: password=[REDACTED]'];
        yield 'a card' => ['card 4111 1111 1111 1111 refused', 'card [CARD-REDACTED] refused'];
    }

    /**
     * PHP-09: literals that a database repeats, arguments in traces and other secrets are gone; the rest stays.
     *
     * @dataProvider messages
     */
    public function testMessages(string $message, string $sent): void
    {
        self::assertSame($sent, Message::redacted(new Redactor(), $message));
    }

    /** PHP-09: a message of any length ends at the bound of all texts. */
    public function testLongMessages(): void
    {
        $sent = Message::redacted(new Redactor(), str_repeat('word ', 100000));
        self::assertSame(1000 + strlen(Redactor::CUT), strlen($sent));
        $sent = Message::redacted(new Redactor(), 'SQLSTATE ' . str_repeat("'", 100001) . 'geheim');
        self::assertStringNotContainsString('geheim', $sent);
    }
}
