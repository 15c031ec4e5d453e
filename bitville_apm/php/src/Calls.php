<?php
namespace BitvilleApm;

/** The calls of one request to other hosts (PHP-16): the first hosts by name, all calls counted. */
final class Calls
{
    private $redactor;
    private $startNs;
    private $hosts = [];

    /** @param int $startNs hrtime of the request's start */
    public function __construct(Redactor $redactor, int $startNs)
    {
        $this->redactor = $redactor;
        $this->startNs = $startNs;
    }

    /** A call of a URL, $ms long, that ended just now: of it only the host is kept. */
    public function to(string $url, float $ms): void
    {
        $host = parse_url($url, PHP_URL_HOST);
        $this->add(is_string($host) && $host !== '' ? strtolower($host) : Stacks::OTHER, $ms);
    }

    /** One call to a host, $ms long, that ended just now. */
    public function add(string $host, float $ms): void
    {
        $ms = is_finite($ms) ? max(0.0, $ms) : 0.0;
        $host = $this->redactor->text($host, Limits::KEY);
        if (!isset($this->hosts[$host]) && count($this->hosts) >= Limits::CALLS) {
            $host = Stacks::OTHER;
        }
        if (!isset($this->hosts[$host])) {
            $at = max(0.0, (hrtime(true) - $this->startNs) / 1e6 - $ms);
            $this->hosts[$host] = ['kind' => 'http', 'target' => $host, 'n' => 0, 'ms' => 0.0, 'at' => round($at, 3)];
        }
        $this->hosts[$host]['n']++;
        $this->hosts[$host]['ms'] = round($this->hosts[$host]['ms'] + $ms, 3);
    }

    /** The `calls` of an end record. */
    public function section(): array
    {
        return array_values($this->hosts);
    }
}
