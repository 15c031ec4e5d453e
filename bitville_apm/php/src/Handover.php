<?php
namespace BitvilleApm;

/**
 * Gives a finished request to the agent, or leaves it in the spool: once, within one deadline.
 *
 * An answer is final either way: `+` is in the agent's journal, `-` in its quarantine.
 */
final class Handover
{
    private $config;
    private $transport;
    private $markers;

    /** Null until it had to be known. */
    private $patient;

    public function __construct(Config $config, Transport $transport, Markers $markers)
    {
        $this->config = $config;
        $this->transport = $transport;
        $this->markers = $markers;
    }

    /**
     * @param callable $begin gives the begin line, sent again first where the connection has to be opened again
     * @param string $end the end line, both with their newlines
     * @param array|null $scheduled schedstat just before, to tell a hung agent from a busy machine
     */
    public function give(string $id, callable $begin, string $end, bool $short, ?array $scheduled): void
    {
        $sent = false;
        $answer = null;
        // The connection held since the start, and another if that broke: the id tells the agent what it already has.
        for ($try = 0; $try < 2; $try++) {
            $again = !$this->transport->isOpen();
            if ($again && !$this->transport->open()) {
                break;
            }
            $whole = $this->transport->send($again ? $begin() . $end : $end, [$this, 'patient']);
            $sent = $sent || $whole;
            $answer = $whole ? $this->transport->answer($this->patient()) : null;
            if ($this->transport->isOpen() || $this->transport->left() <= 0) {
                break;
            }
        }
        $leftNs = $this->transport->left();
        if ($answer !== null) {
            $this->markers->answered();
        } else {
            if ($this->patient === true && $leftNs <= 0 && !self::explained($scheduled)) {
                $this->markers->missed();
            }
            $this->spool($id, rtrim($end, "\n"), $short, $sent);
        }
        $this->transport->close();
        $tookMs = $this->transport->waitedMs();
        if ($tookMs > Limits::HANDOVER_WARN_MS) {
            $this->say('handover', 'handing a request over took ' . $tookMs . ' ms');
        }
    }

    /** Whether to wait at all; asked first when there is something to wait for. */
    public function patient(): bool
    {
        if ($this->patient === null) {
            $this->patient = !$this->markers->hung();
        }
        return $this->patient;
    }

    /** Whether this worker itself waited for a CPU long enough to have missed an answer that was on its way. */
    private static function explained(?array $before): bool
    {
        $after = $before === null ? null : Meter::schedstat();
        return $after !== null && $after[1] - $before[1] >= Limits::RUN_DELAY_EXPLAINS_MS * 1000000;
    }

    private function spool(string $id, string $line, bool $short, bool $sent): void
    {
        if (!$this->config->spoolEnabled) {
            return;
        }
        $spool = new Spool($this->config);
        if ($short) {
            $kept = $sent ? $spool->unconfirmed() : $spool->short($line);
        } else {
            $kept = $spool->whole($line, $sent);
            if ($kept && $this->transport->isOpen()) {
                $this->transport->post(Transport::line(['t' => 'spooled', 'id' => $id]));
            }
        }
        if (!$kept) {
            $this->say('spool', 'the spool directory cannot be written; requests are lost while the agent is away');
        }
        if ($spool->removed() > 0) {
            $this->say('full', 'the spool is full or old; removed ' . $spool->removed() . ' of its oldest files');
        }
    }

    private function say(string $kind, string $message): void
    {
        // On a command line without an error log this would be the application's own stderr.
        $visible = Facts::commandLine() && (string) ini_get('error_log') === '';
        if (!$visible && $this->markers->once($kind)) {
            error_log('Bitville APM: ' . $message);
        }
    }
}
