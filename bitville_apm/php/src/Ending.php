<?php
namespace BitvilleApm;

/** The end line of a request: short or whole, and slim where there is no memory for more. */
final class Ending
{
    private $config;
    private $facts;
    private $redactor;
    private $budget;

    public function __construct(Config $config, Facts $facts, Redactor $redactor, Budget $budget)
    {
        $this->config = $config;
        $this->facts = $facts;
        $this->redactor = $redactor;
        $this->budget = $budget;
    }

    /**
     * The line, and whether it is a short one.
     *
     * @param array $known what the request itself knows: id, at, ms, request, memory, calls, context, fatal, asked, and
     *   ownNs, the client's own work before this
     */
    public function line(array $known, Meter $meter, Profiler $profiler, ?Sql $sql, Markers $markers): array
    {
        $began = hrtime(true);
        // Without memory for more, the bare facts.
        $room = Facts::hasRoom();
        $ms = $known['ms'];
        // A fatal error is worth a whole record however fast it came; its profile is not.
        $fast = $ms < $this->config->thresholdMs && !$known['asked'];
        $short = $fast && $known['fatal'] === null;
        $record = ['t' => 'end', 'v' => 2, 'id' => $known['id'], 'at' => $known['at'], 'ms' => round($ms, 3)];
        $record['request'] = $known['request'];
        $record += $this->facts->who();
        $record['response'] = $this->facts->response(!$short && $room, $known['fatal'] !== null);
        $record += $meter->spent();
        $record['memory'] = $known['memory'];
        $record['calls'] = $known['calls'];
        $record['fatal'] = $known['fatal'] === null ? null : $this->fatal($known['fatal']);
        $record['queue_ms'] = $this->facts->queueMs();
        $record['short'] = $short;
        if ($room) {
            $budgetNs = (int) max(Limits::BUDGET_US * 1e3, Limits::BUDGET_SHARE * $ms * 1e6);
            $record['sql'] = $sql === null ? null : $sql->section($short, $budgetNs);
            $record['profile'] = $profiler->profile($fast ? Limits::SHORT_STACK_BYTES : PHP_INT_MAX);
            $record['context'] = $known['context'];
            $trace = $this->facts->traceparent();
            $record['trace'] = $trace === null ? null : ['traceparent' => $trace];
            if ($this->config->spoolEnabled && $markers->due('.opcache', Limits::OPCACHE_S)) {
                $opcache = Server::opcache();
                $record['php'] = $opcache === null ? null : ['opcache' => $opcache];
            }
            if (!$short) {
                $record['request'] += $this->facts->request();
                $record['server'] = Server::facts($this->facts);
            }
        } else {
            $this->budget->leave('memory');
            $profiler->discard();
            $record['sql'] = $sql === null ? null : $sql->totals();
        }
        // A short record has no stacks of statements, so none was left out of it.
        $record['sampled_down'] = array_values(array_diff($this->budget->left(), $short ? ['sql_stack'] : []));
        $record['request'] = Request::known($record['request']);
        $record['response'] = $record['response'] === [] ? null : $record['response'];
        $line = Record::bounded(Request::known($record));
        // Last of all, so that it covers the encoding too.
        $us = (int) (($known['ownNs'] + $this->budget->spentNs() + hrtime(true) - $began) / 1000);
        return ['line' => substr($line, 0, -2) . ',"client_us":' . $us . "}\n", 'short' => $short];
    }

    private function fatal(array $error): array
    {
        return [
            'type' => $error['type'],
            'message' => Message::redacted($this->redactor, (string) $error['message']),
            'file' => (string) $error['file'],
            'line' => (int) $error['line'],
        ];
    }
}
