<?php

declare(strict_types=1);

namespace BitvilleApm\Tests;

use BitvilleApm\UserAgent;
use PHPUnit\Framework\TestCase;

/** Classes of user agents. */
final class UserAgentTest extends TestCase
{
    public static function agents(): iterable
    {
        $webkit = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) ';
        $cases = [
            $webkit . 'Chrome/120.0.0.0 Safari/537.36' => 'chrome',
            $webkit . 'Chrome/120.0.0.0 Safari/537.36 Edg/120.0.2210.91' => 'edge',
            $webkit . 'Chrome/119.0.0.0 Safari/537.36 OPR/105.0.0.0' => 'opera',
            $webkit . 'SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36' => 'samsung',
            'Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0' => 'firefox',
            'Mozilla/5.0 (Macintosh; Intel Mac OS X 14_1) AppleWebKit/605.1 Version/17.1 Safari/605.1' => 'safari',
            'Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) CriOS/120.0 Mobile Safari/604.1' => 'chrome',
            'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)' => 'googlebot',
            $webkit . '(compatible; bingbot/2.0) Chrome/116.0 Safari/537.36' => 'bingbot',
            'Mozilla/5.0 (compatible; AhrefsBot/7.0)' => 'ahrefsbot',
            'Mozilla/5.0 (compatible; Baiduspider/2.0)' => 'baiduspider',
            'somecrawler' => 'somecrawler',
            'curl/8.5.0' => 'curl',
            'Wget/1.21.4' => 'wget',
            'python-requests/2.31.0' => 'python',
            'Mozilla/5.0 aiohttp/3.9' => 'python',
            'Go-http-client/1.1' => 'go',
            'okhttp/4.12.0' => 'java',
            'axios/1.6.2' => 'node',
            'got (https://github.com/sindresorhus/got)' => 'node',
            'gotcha/1' => 'other',
            'WordPress/6.4; https://shop.example' => 'php',
            'GuzzleHttp/7' => 'php',
            'ApacheBench/2.3' => 'benchmark',
            'Mozilla/5.0' => 'other',
        ];
        foreach ($cases as $agent => $name) {
            yield $agent => [$agent, $name];
        }
        yield 'no UTF-8' => ["\xff\xfe", 'other'];
        yield 'none' => ['', null];
        yield 'told too late' => [str_repeat('x', 300) . 'bot', 'other'];
    }

    /**
     * PHP-04: a user agent is told as its class: crawlers first, programs, browsers; anything else is `other`.
     *
     * @dataProvider agents
     */
    public function testAgents(string $agent, ?string $name): void
    {
        self::assertSame($name, UserAgent::name($agent));
    }

    /** A visitor cannot make up classes at will: they are short, and letters only. */
    public function testClassesAreBounded(): void
    {
        foreach ([str_repeat('a', 200) . 'bot', 'x"y<bot', "\xffBot", 'a b-c_d1bot'] as $agent) {
            self::assertMatchesRegularExpression('/^[a-z]{1,27}$/D', (string) UserAgent::name($agent), $agent);
        }
    }
}
