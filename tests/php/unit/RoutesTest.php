<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\Routes;
use PHPUnit\Framework\TestCase;

/**
 * Frameworks in versions that nobody knows here; tests/php/test_routes.py has the real ones.
 *
 * @runTestsInSeparateProcesses
 * @preserveGlobalState disabled
 */
final class RoutesTest extends TestCase
{
    public static function strange(): iterable
    {
        yield 'nothing' => [''];
        yield 'Laravel without its properties' => ['namespace Illuminate\Container; class Container {}'];
        yield 'Laravel with another router' => [
            'namespace Illuminate\Container; class Container { static $instance; public $instances = ["router" => "x"];'
            . ' } Container::$instance = new Container;',
        ];
        yield 'Symfony with another request' => [
            'namespace Symfony\Component\HttpFoundation; class Request { public $attributes = 5; }'
            . ' $GLOBALS["request"] = new Request;',
        ];
        yield 'Phalcon that throws' => [
            'namespace Phalcon; class Di { static function getDefault() { throw new \Error("x"); } }',
        ];
        yield 'Phalcon without a container' => [
            'namespace Phalcon\Di; class Di { static function getDefault() { return null; } }',
        ];
        yield 'MediaWiki without a context' => ['const MEDIAWIKI = true; const MW_ENTRY_POINT = "index";'];
    }

    /**
     * PHP-13, PHP-15: a framework that is other than those known here has no route, and nothing is thrown.
     *
     * @dataProvider strange
     */
    public function testStrangeFrameworks(string $code): void
    {
        eval($code);
        self::assertNull(Routes::found('GET', null));
        self::assertNull(Routes::found('GET', debug_backtrace()));
    }

    /** PHP-15: one that fails does not keep the next from being asked; nothing of Phalcon is called while it runs. */
    public function testTheNextIsAsked(): void
    {
        eval('namespace Illuminate\Container; class Container {}');
        eval('namespace Phalcon\Di; class Di {
            static function getDefault() { return new self; } function has() { return true; }
            function getShared() { return $this; } function getMatchedRoute() { return $this; }
            function getPattern() { return "/shop/{id}"; } }');
        self::assertSame('GET /shop/{id}', Routes::found('GET', null));
        self::assertNull(Routes::found('GET', []));
    }
}
