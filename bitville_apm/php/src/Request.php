<?php
namespace BitvilleApm;

/** One request, or one job of a worker, from its begin line to its end record. */
final class Request
{
    const FATAL = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR;

    private $config;
    private $facts;
    private $redactor;
    private $transport;
    private $profiler;
    private $meter;
    private $budget;
    private $application;

    /** Null until a statement is noted. */
    private $sql;

    private $id;
    private $at;

    /** hrtime of the request's start, before this client was loaded. */
    private $startNs;

    /** The client's own work so far, ns. */
    private $ownNs = 0;

    /** The part of it before the application ran. */
    private $beganNs = 0;

    private $endpoint;
    private $context = [];

    /** Null until another host is called. */
    private $calls;
    private $fatal;
    private $memory;
    private $pid;

    /** Whether this process may be forked: only then it has to be asked who it is, for each statement. */
    private $forks;
    private $over = false;

    /** Whether somebody asked for this request's deep profile: then it is kept whole. */
    private $asked = false;

    /**
     * @param int $loadedNs hrtime when the client began its own work
     * @param string|null $job a name, where the application begins a piece of work by hand
     */
    public function __construct(Config $config, int $loadedNs, ?string $job = null)
    {
        $this->config = $config;
        $this->id = self::uuid();
        $this->pid = function_exists('getmypid') ? getmypid() : 0;
        $this->forks = $this->pid !== 0 && (Facts::commandLine() || function_exists('pcntl_fork'));
        $this->redactor = new Redactor($config->redactKeys);
        $this->facts = new Facts($config, $this->redactor);
        $now = microtime(true);
        $taken = $job === null ? $this->facts->startedAt() : $now;
        // A clock that jumped since is not this request's time.
        $before = $taken > 0 && $now >= $taken && $now - $taken < 86400 ? $now - $taken : 0.0;
        $this->at = $now - $before;
        $this->startNs = $loadedNs - (int) ($before * 1e9);
        $this->budget = new Budget($this->startNs);
        $this->transport = new Transport($config);
        $this->endpoint = new Endpoint($this->id, $this->transport, $this->redactor, $this->budget, $this->facts, $job);
        $this->begin($loadedNs, $job === null);
    }

    /** An application that ends in exit() within its own shutdown function: destructors still run. */
    public function __destruct()
    {
        if (!$this->over) {
            Client::quietly(function () {
                Client::finish($this);
            });
        }
    }

    private function begin(int $loadedNs, bool $starting): void
    {
        // Without an agent the line is not even built, and nobody looks at this process meanwhile: then the cheaper
        // clock will do. To begin a request must cost next to nothing.
        $open = $this->transport->open();
        $this->meter = new Meter($open);
        if ($open) {
            $this->transport->post($this->beginLine());
        }
        $this->application = new Application($this->config, $this->facts->script(), $this->id, $starting);
        $this->profiler = $this->chosen();
        $this->profiler->start();
        $this->ownNs = $this->beganNs = hrtime(true) - $loadedNs;
    }

    /** What tells where the time goes: the deep mode only where this request was chosen for it. */
    private function chosen(): Profiler
    {
        $config = $this->config;
        if ($config->xhprof && Client::rest() && ($extension = XhprofProfiler::extension()) !== null) {
            $this->asked = XhprofProfiler::asked($this->facts->trigger(), $config->xhprofSecret);
            $drawn = $config->xhprofOneIn > 0 && hexdec(substr($this->id, 0, 8)) % $config->xhprofOneIn === 0;
            if ($this->asked || $drawn) {
                return new XhprofProfiler($extension, $config->xhprofFlags, $config->memory);
            }
        }
        if ($config->profiler !== 'none' && ExcimerProfiler::available()) {
            return new ExcimerProfiler($config->periodMs, $this->facts->script(), $this->budget);
        }
        return new NoProfiler();
    }

    /** The begin line, and the route line where the name is known already. */
    private function beginLine(): string
    {
        $line = [
            't' => 'begin',
            'v' => 2,
            'id' => $this->id,
            'at' => round($this->at, 6),
            'pid' => $this->pid,
            'method' => $this->endpoint->method(),
            'uri' => $this->endpoint->uri(),
        ];
        $line += $this->facts->who();
        $line['ss'] = $this->meter->start();
        $begin = Transport::line(self::known($line));
        return $this->endpoint->route() === null ? $begin : $begin . $this->endpoint->line();
    }

    /** Where statements are noted; null when nobody wants them. */
    public function sql(string $source): ?Sql
    {
        if (!$this->config->sql || $this->config->sqlMethod !== 'auto' && !$this->config->takes($source)) {
            return null;
        }
        if ($this->sql === null && Client::rest()) {
            $this->sql = new Sql($this->config, $this->startNs, $this->at, $this->budget);
        }
        return $this->sql;
    }

    public function id(): string
    {
        return $this->id;
    }

    /** False in a child that was forked off: the request is its parent's. */
    public function mine(): bool
    {
        return !$this->over && (!$this->forks || $this->pid === getmypid());
    }

    /** What it is called, and where that is said. */
    public function endpoint(): Endpoint
    {
        return $this->endpoint;
    }

    public function addContext(string $key, $value): void
    {
        if (isset($this->context[$key]) || count($this->context) < Limits::CONTEXT_KEYS) {
            // At once, so that neither an object nor a large string is kept alive for us.
            $this->context = array_replace($this->context, $this->redactor->map([$key => $value]));
        }
    }

    /** Where calls to other hosts are noted. */
    public function calls(): Calls
    {
        if ($this->calls === null) {
            $this->calls = new Calls($this->redactor, $this->startNs);
        }
        return $this->calls;
    }

    /** Remembers a fatal error: shutdown functions of the application may overwrite the last error. */
    public function noteFatal(): void
    {
        $error = error_get_last();
        if ($this->fatal === null && $error !== null && ($error['type'] & self::FATAL) !== 0) {
            $this->fatal = $error;
        }
    }

    /** Ends the measurement, answers the visitor, and gives the record to the agent. */
    public function finish(bool $byHand = false): void
    {
        if (!$this->mine()) {
            $this->disown();
            return;
        }
        $this->over = true;
        $stoppedNs = hrtime(true);
        $this->profiler->stop();
        $scheduled = $this->meter->stop();
        $this->memory = [
            'peak_bytes' => memory_get_peak_usage(),
            'current_bytes' => memory_get_usage(),
        ];
        if (!$byHand) {
            $this->endpoint->settle();
        }
        $uncaptured = $this->application->uncaptured($this->sql);
        if ($uncaptured > 0 && ($sql = $this->sql('mysqli')) !== null) {
            $sql->count($uncaptured);
        }
        $this->ownNs += hrtime(true) - $stoppedNs;
        if (!$byHand) {
            $this->noteFatal();
            if (!$this->facts->refused()) {
                Client::answer();
            }
        }
        $limit = Client::lifted();
        $summary = $this->summary($stoppedNs);
        Application::takeOver($this->sql);
        $markers = new Markers($this->config);
        $ending = new Ending($this->config, $this->facts, $this->redactor, $this->budget);
        $end = $ending->line($summary, $this->meter, $this->profiler, $this->sql, $markers);
        $handover = new Handover($this->config, $this->transport, $markers);
        // It is needed once more only where the connection has to be opened again.
        $begin = function () {
            return $this->beginLine();
        };
        $handover->give($this->id, $begin, $end['line'], $end['short'], $scheduled);
        Client::restore($limit);
    }

    /** In a forked child: Excimer's timers are not inherited, and would warn into its output when it ends. */
    private function disown(): void
    {
        if (!$this->over) {
            $this->over = true;
            $this->profiler->discard();
        }
    }

    /** What the end line is made from. */
    private function summary(int $stoppedNs): array
    {
        return [
            'id' => $this->id,
            'at' => round($this->at, 6),
            // Wall time of the application alone.
            'ms' => max(0.0, ($stoppedNs - $this->startNs - $this->beganNs - $this->budget->spentNs()) / 1e6),
            'request' => [
                'method' => $this->endpoint->method(),
                'uri' => $this->endpoint->uri(),
                'route' => $this->endpoint->route(),
            ],
            'memory' => $this->config->memory ? $this->memory : null,
            'calls' => $this->calls === null ? [] : $this->calls->section(),
            'context' => $this->context === [] ? null : (object) $this->context,
            'fatal' => $this->fatal,
            'asked' => $this->asked,
            'ownNs' => $this->ownNs,
        ];
    }

    /** A record, or a part of it, without what is not known: that is not sent. */
    public static function known(array $record): array
    {
        foreach ($record as $name => $value) {
            if ($value === null || $value === []) {
                unset($record[$name]);
            }
        }
        return $record;
    }

    /** RFC 4122, version 4. */
    private static function uuid(): string
    {
        $hex = bin2hex(random_bytes(16));
        $hex[12] = '4';
        $hex[16] = '89ab'[hexdec($hex[16]) & 3];
        return substr($hex, 0, 8) . '-' . substr($hex, 8, 4) . '-' . substr($hex, 12, 4) . '-' . substr($hex, 16, 4) . '-'
            . substr($hex, 20);
    }
}
