<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Limits;
use BitvilleApm\Redactor;
use PHPUnit\Framework\TestCase;

/** What is taken out of names, texts, maps, headers and URIs before anything leaves the process. */
final class RedactorTest extends TestCase
{
    private const CARD = '4111111111111111';

    public static function promised(): iterable
    {
        $names = 'password passwd pwd pass token auth_token access_token refresh_token api_key apikey secret'
            . ' private_key credit_card card_number cvv cvc ssn social_security otp session authorization csrf';
        foreach (explode(' ', $names) as $name) {
            yield $name => [$name];
        }
    }

    /**
     * PHP-09: every promised name tells, in every spelling.
     *
     * @dataProvider promised
     */
    public function testNamesThatTell(string $name): void
    {
        $camel = str_replace('_', '', ucwords($name, '_'));
        $spellings = [
            $name, strtoupper($name), strtr($name, '_', '-'), $camel, lcfirst($camel), "{$name}s", "{$name}2",
            "user_$name", "user$camel", "X-$camel", "user[$name]", "$name of joe",
        ];
        $redactor = new Redactor();
        foreach ($spellings as $spelling) {
            self::assertTrue($redactor->tells($spelling), $spelling);
        }
    }

    public static function harmless(): iterable
    {
        $names = 'classname compass bypass passenger tokenizer authority possession id name colour sessionless';
        foreach (explode(' ', $names) as $name) {
            yield $name => [$name];
        }
        yield 'none' => [''];
    }

    /**
     * PHP-09: names that only contain one of the promised words do not tell.
     *
     * @dataProvider harmless
     */
    public function testNamesThatDoNotTell(string $name): void
    {
        self::assertFalse((new Redactor())->tells($name));
    }

    /** PHP-07, PHP-09: `redact_keys` adds names, in every spelling; what cannot be a name adds nothing. */
    public function testNamesOfTheSettings(): void
    {
        $redactor = new Redactor(['iban', 'kunden_nummer', '', '42', 'a.b(']);
        $telling = ['iban', 'my_iban', 'IBAN', 'kundenNummer', 'kunden-nummer', 'kundennummer', 'a.b', 'XCSRFToken'];
        foreach ($telling as $name) {
            self::assertTrue($redactor->tells($name), $name);
        }
        foreach (['ibanez', 'kunden', 'abc', 'id', ''] as $name) {
            self::assertFalse($redactor->tells($name), $name);
        }
    }

    /** PHP-09: a name longer than any real one tells; what was judged before changes no judgement. */
    public function testManyAndLongNames(): void
    {
        $redactor = new Redactor();
        self::assertTrue($redactor->tells(str_repeat('x', Limits::STRING + 1)));
        self::assertFalse($redactor->tells(str_repeat('x', Limits::STRING)));
        for ($i = 0; $i < 2500; $i++) {
            self::assertSame([false, true], [$redactor->tells("field$i"), $redactor->tells("otp$i")]);
        }
        self::assertSame([true, false], [$redactor->tells('otp0'), $redactor->tells('field0')]);
    }

    public static function texts(): iterable
    {
        $cases = [
            self::CARD => '[CARD-REDACTED]',
            'card 4111-1111-1111-1111.' => 'card [CARD-REDACTED].',
            '4111 1111 1111 1111' => '[CARD-REDACTED]',
            '4111.1111.1111.1111' => '[CARD-REDACTED]',
            '4111+1111+1111+1111' => '[CARD-REDACTED]',
            '4111-1111 1111.1111' => '4111-1111 1111.1111',
            '41111111111111112' => '41111111111111112',
            'https://joe:pw@example.org/x?a=1&token=abc&b=2' =>
                'https://[REDACTED]@example.org/x?a=1&token=[REDACTED]&b=2',
            'mysql://root:a@b@db/shop' => 'mysql://[REDACTED]@db/shop',
            '/reset?user%5Bpassword%5D=hunter2' => '/reset?user[password]=[REDACTED]',
            '/go?next=%252Fx%253Ftoken%253Dabc' => '/go?next=/x?token=[REDACTED]',
            '/caf%C3%A9?a=%20b' => '/caf%C3%A9?a=%20b',
            '{"user":"joe","password":"hunter 2"}' => '{"user":"joe","password":[REDACTED]}',
            '{\\"password\\":\\"hunter2\\"}' => '{\\"password\\":[REDACTED]}',
            '{"password":["a","b"],"c":1}' => '{"password":[REDACTED]',
            "'secret' => 'x y'," => "'secret' => [REDACTED],",
            'token = abc, colour = red' => 'token = [REDACTED], colour = red',
            'Bearer abcdef123456' => 'Bearer [REDACTED]',
            'Bearer abcdefghijkl' => '[REDACTED]',
            'a basic truth' => '[REDACTED]',
            "Cookie: a=b; c=d\nHost: h" => "Cookie: [REDACTED]\nHost: h",
            'at 12:30 in room: 5' => 'at 12:30 in room: 5',
            'url=/x?otp=123' => 'url=/x?otp=[REDACTED]',
            'nothing here' => 'nothing here',
            '' => '',
        ];
        foreach ($cases as $text => $sent) {
            yield (string) $text => [(string) $text, $sent];
        }
    }

    /**
     * PHP-09: cards, credentials in URLs, bearers and values of telling names go from every text, and the rest stays.
     *
     * @dataProvider texts
     */
    public function testTexts(string $text, string $sent): void
    {
        self::assertSame($sent, (new Redactor())->text($text));
    }

    /** PHP-09: a text ends at its bound and says so; one that just fits is whole. */
    public function testLongTexts(): void
    {
        $redactor = new Redactor();
        self::assertSame(str_repeat('x', 1000), $redactor->text(str_repeat('x', 1000)));
        self::assertSame(str_repeat('x', 1000) . '...[truncated]', $redactor->text(str_repeat('x', 1001)));
        self::assertSame(str_repeat('x', 100) . '...[truncated]', $redactor->text(str_repeat('x', 5000), Limits::KEY));
        foreach ([100, 5000] as $pairs) {
            self::assertLessThanOrEqual(1014, strlen($redactor->text(str_repeat('token=1 ', $pairs))));
        }
    }

    public static function ends(): iterable
    {
        foreach ([Limits::STRING, Limits::STRING + Redactor::AHEAD] as $end) {
            yield "at $end" => [$end];
        }
    }

    /**
     * PHP-09: whatever a bound cuts through, no part of a secret is left in front of the cut.
     *
     * @dataProvider ends
     */
    public function testNothingIsCutInHalf(int $end): void
    {
        $redactor = new Redactor();
        $word = 'geheim99geheim99';
        foreach ([self::CARD, "password=$word", "https://joe:$word@h/", "Bearer $word"] as $secret) {
            for ($at = $end - strlen($secret) - 2; $at <= $end + 2; $at++) {
                $sent = $redactor->text('1' . str_repeat('y', $at - 2) . ' ' . $secret . str_repeat(' z', 300));
                self::assertStringNotContainsString('4111', $sent, "$secret at $at");
                self::assertStringNotContainsString('geheim', $sent, "$secret at $at");
            }
        }
    }

    /** PHP-09: what is half a secret where the look at a text ends is not sent, though marks move it forward. */
    public function testMarksMoveNothingForward(): void
    {
        $text = str_repeat('token=' . str_repeat('x', 189) . ' ', 3);
        $text = str_pad($text, Limits::STRING + Redactor::AHEAD - 9, 'y') . ' ' . self::CARD . ' and more';
        $sent = (new Redactor())->text($text);
        self::assertStringContainsString('token=[REDACTED]', $sent);
        self::assertStringNotContainsString('4111', $sent);
    }

    /** PHP-09: of a map every value of a telling name goes whole, in any depth; others keep their type. */
    public function testMaps(): void
    {
        $map = [
            'colour' => 'red', 'password' => ['a' => 'b'], 'list' => [1, 2.5, true, null, INF, NAN, 'token=x'],
            'card' => [(int) self::CARD, -4111111111111111, 4111111111111111.0], 'apiKey' => 5, 7 => ['otp' => 1],
            (int) self::CARD => 'x', 'a token=x' => 'y',
        ];
        self::assertSame([
            'colour' => 'red', 'password' => '[REDACTED]',
            'list' => [1, 2.5, true, null, 'INF', 'NAN', 'token=[REDACTED]'],
            'card' => ['[CARD-REDACTED]', '[CARD-REDACTED]', '[CARD-REDACTED]'],
            'apiKey' => '[REDACTED]', 7 => ['otp' => '[REDACTED]'],
            '[CARD-REDACTED]' => 'x', 'a token=[REDACTED]' => '[REDACTED]',
        ], (new Redactor())->map($map));
    }

    /** PHP-09: of an object its class is told; nothing of the application is called for it. */
    public function testObjectsAreNotAsked(): void
    {
        $object = new class () implements \JsonSerializable {
            public function __toString(): string
            {
                throw new \LogicException('asked');
            }

            #[\ReturnTypeWillChange]
            public function jsonSerialize()
            {
                throw new \LogicException('asked');
            }
        };
        $file = fopen('php://memory', 'r');
        $sent = (new Redactor())->map(['o' => $object, 'n' => new \ArrayObject([1]), 'f' => $file]);
        self::assertStringStartsWith('object ', $sent['o']);
        self::assertSame(['object ArrayObject', 'resource'], [$sent['n'], $sent['f']]);
    }

    /** PHP-09: with `names` no value is sent, however harmless its name. */
    public function testNamesOnly(): void
    {
        self::assertSame(
            ['a' => '[REDACTED]', 'b' => '[REDACTED]', 0 => '[REDACTED]', 1 => ['c' => '[REDACTED]']],
            (new Redactor())->map(['a' => 'x', 'b' => ['c' => 'x'], 0 => 5, 1 => ['c' => 'x']], 'names')
        );
    }

    /** PHP-09, COMM-09: nesting ends at 5, a map at 500 values in all, and both say so; loops end, too. */
    public function testDeepAndWideMaps(): void
    {
        $redactor = new Redactor();
        $deep = 'end';
        for ($i = 0; $i < 600; $i++) {
            $deep = ['a' => $deep];
        }
        self::assertSame(['a' => ['a' => ['a' => ['a' => ['a' => '[MAX_DEPTH_EXCEEDED]']]]]], $redactor->map($deep));
        $loop = ['a' => 1];
        $loop['self'] = &$loop;
        self::assertStringContainsString('[MAX_DEPTH_EXCEEDED]', (string) json_encode($redactor->map($loop)));
        $wide = $redactor->map(array_fill(0, 400, ['x']));
        $count = 0;
        array_walk_recursive($wide, static function () use (&$count): void {
            $count++;
        });
        self::assertTrue($wide['...[truncated]']);
        self::assertLessThanOrEqual(Limits::ENTRIES, $count);
    }

    /** PHP-09: telling headers lose their value, Referer and Location their query; others are bounded. */
    public function testHeaders(): void
    {
        $telling = [
            'Authorization', 'Cookie', 'Set-Cookie', 'X-Api-Key', 'x-auth-token', 'Proxy-Authorization', 'X-CSRF-Token',
        ];
        $redactor = new Redactor();
        $sent = $redactor->headers(array_fill_keys($telling, 'x') + [
            'Referer' => 'https://joe:pw@h/a?mail=b', 'Location' => '/next', 'Accept' => '*/*',
            'X-Long' => str_repeat('y', 900),
        ], 'values');
        self::assertSame(array_fill_keys($telling, '[REDACTED]'), array_slice($sent, 0, count($telling)));
        self::assertSame('https://[REDACTED]@h/a?[REDACTED]', $sent['Referer']);
        self::assertSame(['/next', '*/*'], [$sent['Location'], $sent['Accept']]);
        self::assertSame(str_repeat('y', 500) . '...[truncated]', $sent['X-Long']);
        self::assertSame(['Accept' => '[REDACTED]'], $redactor->headers(['Accept' => '*/*'], 'names'));
        self::assertCount(100, $redactor->headers(array_fill_keys(range(1001, 1300), 'x'), 'values'));
    }

    public static function uris(): iterable
    {
        yield 'values go' => ['/x?a=1&token=2&b[]=3', '/x?a=&token=&b[]='];
        yield 'one long value' => ['/x?aGVsbG8', '/x'];
        yield 'nothing behind the mark' => ['/x?', '/x'];
        yield 'the path' => ['/pay/4111111111111111?a=1', '/pay/[CARD-REDACTED]?a='];
        yield 'a card as a name' => ['/x?4111111111111111=1', '/x?[CARD-REDACTED]='];
        yield 'twenty-one names' => [
            '/x?' . implode('&', array_fill(0, 30, 'a=1')),
            '/x?' . implode('&', array_fill(0, 21, 'a=')),
        ];
    }

    /**
     * PHP-09: a URI keeps the names of its query and none of its values.
     *
     * @dataProvider uris
     */
    public function testUris(string $uri, string $sent): void
    {
        self::assertSame($sent, (new Redactor())->uri($uri));
        self::assertStringNotContainsString('?', (new Redactor())->uri($uri, false));
    }
}
