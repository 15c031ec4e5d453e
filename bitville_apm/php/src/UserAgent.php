<?php
namespace BitvilleApm;

/** The class of a User-Agent: few enough values to be a dimension, telling enough to see a crawler. */
final class UserAgent
{
    const PROGRAMS = [
        'curl' => '/^curl\b/i',
        'wget' => '/^wget\b/i',
        'python' => '/^python|aiohttp|httpx|scrapy/i',
        'go' => '/^go-http-client/i',
        'java' => '/^(?:java|okhttp|apache-httpclient)/i',
        'node' => '/^(?:node|axios|undici|got\b)/i',
        'php' => '/^(?:php|guzzle|wordpress|symfony)/i',
        'benchmark' => '/^(?:apachebench|wrk|hey\b|siege|jmeter|k6)/i',
    ];

    /** And those that may begin with `Mozilla/`, as what visitors use does: for each page, so only these. */
    const BROWSERS = [
        'python' => '/aiohttp|httpx|scrapy/i',
        'edge' => '/\bEdg(?:e|A|iOS)?\//',
        'opera' => '/\bOPR\/|^Opera/',
        'samsung' => '/SamsungBrowser/',
        'firefox' => '/Firefox\/|FxiOS\//',
        'chrome' => '/Chrom(?:e|ium)\/|CriOS\//',
        'safari' => '/Safari\//',
    ];

    /** `googlebot`, `chrome`, `curl` …; `other` for what is unknown, null for none. */
    public static function name(string $agent): ?string
    {
        $agent = substr($agent, 0, 300);
        if ($agent === '') {
            return null;
        }
        // Crawlers first: most of them also claim to be a browser.
        if (
            preg_match('/bot|spider|crawl/i', $agent) === 1
            && preg_match('/([A-Za-z]{0,20}(?:bot|spider|crawl(?:er)?))\b/i', $agent, $found) === 1
        ) {
            return strtolower($found[1]);
        }
        $families = strncmp($agent, 'Mozilla/', 8) === 0 ? self::BROWSERS : self::PROGRAMS + self::BROWSERS;
        foreach ($families as $name => $pattern) {
            if (preg_match($pattern, $agent) === 1) {
                return $name;
            }
        }
        return 'other';
    }
}
